"""The platform in containers: brought up, broken, compared with what is known to be true. `make compose-test`."""
