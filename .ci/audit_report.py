"""Says what pip-audit found: python .ci/audit_report.py build/vulnerabilities.json. Exit code 1: a known vulnerability.

pip-audit says "no known vulnerabilities" also where it could look nothing up, as behind a mirror without a database.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path


def main(path: Path) -> int:
    found = json.loads(path.read_text(encoding="utf-8"))["dependencies"] if path.exists() else []
    known = [each for each in found if "skip_reason" not in each]
    vulnerable = [(each, vuln) for each in known for vuln in each["vulns"]]
    for each, vuln in vulnerable:
        fixed = ", ".join(vuln["fix_versions"]) or "no version yet"
        print(f"{each['name']} {each['version']}: {vuln['id']}, mended in {fixed}")  # noqa: T201
    if not known:
        print("no database of vulnerabilities could be reached: only the SBOM was written")  # noqa: T201
    else:
        unknown = f"; {len(found) - len(known)} could not be looked up" if len(known) < len(found) else ""
        print(f"{len(known)} packages looked up, {len(vulnerable)} known vulnerabilities{unknown}")  # noqa: T201
    return int(bool(vulnerable))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
