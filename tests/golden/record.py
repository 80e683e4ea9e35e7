"""Record golden values anew: `python -m tier4k.tests.golden.record NAME ...`.

Names are signatures, features, slow_features and heads. Record values only where they change on purpose, in
the commit that makes the change safe:
- heads: `PROTOCOL_VERSION` is raised, so that runs with the old values are fitted again. Recording without it
  is right only where something new has no values yet, such as a head, an option or a split rule.
- features, slow_features: the name of the preprocessing or the text of the feature point changes, so that
  stores with the old values are not found.
- signatures: a preset, a preprocessing or a feature point is new.
"""

import os
import sys

from tier4k.tests.golden.values import write_values


def main(names: list[str]) -> None:
    os.environ["HF_HUB_OFFLINE"] = "1"
    for name in names:
        sys.stdout.write(f"{write_values(name, _computed(name))}\n")


def _computed(name: str) -> dict:
    """What the program computes now; imports only what is needed, as some of it takes long."""
    if name == "signatures":
        from tier4k.tests.golden.signature_values import folder_names

        return folder_names()
    if name == "features":
        from tier4k.tests.golden.feature_values import feature_values

        return feature_values()
    if name == "slow_features":
        from tier4k.tests.golden.feature_values import slow_feature_values

        return slow_feature_values()
    if name == "heads":
        from tier4k.heads.results.run_format import PROTOCOL_VERSION
        from tier4k.tests.golden.head_values import head_values

        return {"protocol": PROTOCOL_VERSION, "values": head_values()}
    raise SystemExit(
        f"there are no golden values {name!r}: choose signatures, features, slow_features or heads"
    )


if __name__ == "__main__":
    main(sys.argv[1:])
