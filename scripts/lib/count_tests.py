"""Prints the counts of a ctest JUnit report in one line; fails if anything failed or nothing ran."""

import sys
import xml.etree.ElementTree as ElementTree


def main() -> int:
    try:
        suite = ElementTree.parse(sys.argv[1]).getroot()
    except (OSError, ElementTree.ParseError) as error:
        print(f"no report ({error})")
        return 1
    total, failures, skipped, disabled = (
        int(suite.get(key, "0")) for key in ("tests", "failures", "skipped", "disabled")
    )
    passed = total - failures - skipped - disabled
    print(f"{passed:4d} passed  {failures:3d} failed  {skipped + disabled:3d} skipped", end="")
    return 0 if passed > 0 and failures == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
