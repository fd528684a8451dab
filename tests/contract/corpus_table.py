"""`python -m tests.contract.corpus_table`: every payload of the corpus, what it is to us, and why."""

import sys
from collections import Counter

from tests.contract.corpus import FOLDER, deliveries, present, read


def main() -> int:
    """Print the table; 1 without a corpus."""
    if not present():
        print(f"no corpus in {FOLDER}; set REGULARS_CORPUS", file=sys.stderr)
        return 1
    results = [read(file, delivery)[0] for file, delivery in deliveries()]
    width = max(len(each.file) for each in results)
    for each in results:
        print(f"{each.file:{width}}  {each.outcome:8}  {each.reason}")
    counts = Counter(each.outcome for each in results)
    print(f"{len(results)} payloads: {', '.join(f'{count} {name}' for name, count in counts.most_common())}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
