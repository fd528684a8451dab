"""The events that services exchange: one module per topic, msgspec Structs, CloudEvents 1.0 around them.

`topics.py` names every topic with its key, producer, consumers and retention. A contract only ever gains
optional fields: the generated schemas in `docs/contracts/` are committed and compared in tests.
"""
