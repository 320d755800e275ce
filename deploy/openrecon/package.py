"""Make the OpenRecon package: image with the label, saved, and zipped with a PDF of its name.

    python deploy/openrecon/package.py out/            needs Docker below version 25 and the image
                                                       boreside:latest (deploy/Dockerfile)

Siemens' own schema of the label is not in this repository: validate with it before installing.
"""

import argparse
import base64
import json
import subprocess
import zipfile
from pathlib import Path

FOLDER = Path(__file__).parent
UI = FOLDER / "boreside_json_ui.json"


def metadata() -> str:
    """Return the label's value: the JSON in base64."""
    return base64.b64encode(json.dumps(json.loads(UI.read_text())).encode()).decode()


def names() -> tuple[str, str]:
    """Return the names of the image and of the files, as OpenRecon wants them."""
    general = json.loads(UI.read_text())["general"]
    stem = f"OpenRecon_{general['vendor']}_{general['id']}_V{general['version']}"
    return f"openrecon_{general['vendor']}_{general['id']}:v{general['version']}".lower(), stem


def pdf(text: str) -> bytes:
    """Return a PDF of one page with one line."""
    content = f"BT /F1 12 Tf 72 720 Td ({text}) Tj ET".encode()
    page = (
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 595 842]/Contents 4 0 R"
        b"/Resources<</Font<</F1 5 0 R>>>>>>"
    )
    objects = (
        b"<</Type/Catalog/Pages 2 0 R>>",
        b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
        page,
        b"<</Length %d>>stream\n%s\nendstream" % (len(content), content),
        b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
    )
    out, offsets = b"%PDF-1.4\n", []
    for number, body in enumerate(objects, 1):
        offsets.append(len(out))
        out += b"%d 0 obj%s endobj\n" % (number, body)
    table = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    head = b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    tail = b"trailer<</Size %d/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF\n"
    return out + head + table + tail % (len(objects) + 1, len(out))


def main() -> None:
    """Build, save and zip."""
    parser = argparse.ArgumentParser(description="Make the OpenRecon package.")
    parser.add_argument("out", type=Path, help="folder for the zip file")
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    image, stem = names()
    build = ["docker", "build", "-f", str(FOLDER / "Dockerfile"), "-t", image]
    subprocess.run([*build, "--build-arg", f"METADATA={metadata()}", str(FOLDER)], check=True)
    tar = out / f"{stem}.tar"
    subprocess.run(["docker", "save", "-o", str(tar), image], check=True)
    with zipfile.ZipFile(out / f"{stem}.zip", "w", zipfile.ZIP_DEFLATED) as package:
        package.write(tar, tar.name)
        package.writestr(f"{stem}.pdf", pdf(stem))
    tar.unlink()


if __name__ == "__main__":
    main()
