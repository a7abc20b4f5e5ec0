"""Copy the reader and the packages that a page needs into the package data of cnn-export; ``make web`` calls it.

The sources are readers/js and the npm packages that export/web/package-lock.json pins. Import specifiers of packages
become paths, so that a page needs neither an import map nor a build step.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
READER = ROOT / "readers" / "js"
WEB = ROOT / "export" / "web"
PACKAGES = WEB / "node_modules"
LICENSES = WEB / "licenses"  # of the packages that come without their licence
ASSETS = ROOT / "export" / "src" / "cnn_export" / "web" / "assets"

NODE_ONLY = {"command.js", "find.js"}
"""Modules of the reader that only its command needs."""

VENDORED = {
    "onnxruntime-web/dist/ort.wasm.min.mjs": "ort.wasm.min.mjs",
    "onnxruntime-web/dist/ort-wasm-simd-threaded.mjs": "ort-wasm-simd-threaded.mjs",
    "onnxruntime-web/dist/ort-wasm-simd-threaded.wasm": "ort-wasm-simd-threaded.wasm",
    "@cwasm/jpeg-turbo/jpeg-turbo.wasm": "jpeg-turbo.wasm",
    "@cwasm/webp/webp.wasm": "webp.wasm",
    "pako/dist/pako.mjs": "pako.mjs",
    "pako/LICENSE": "licenses/pako.txt",
    "@noble/hashes/sha2.js": "noble-hashes/sha2.js",
    "@noble/hashes/_md.js": "noble-hashes/_md.js",
    "@noble/hashes/_u64.js": "noble-hashes/_u64.js",
    "@noble/hashes/utils.js": "noble-hashes/utils.js",
    "@noble/hashes/LICENSE": "licenses/noble-hashes.txt",
}
"""File of a package, and its name in the folder ``vendor`` of a page."""

PATHS = {
    "pako": "../../vendor/pako.mjs",
    "@noble/hashes/sha2.js": "../../vendor/noble-hashes/sha2.js",
    "@noble/hashes/utils.js": "../../vendor/noble-hashes/utils.js",
}
"""Import specifiers of packages in the reader's modules, and what they become."""

BARE = re.compile(r'(\bfrom ")([^."][^"]*)(")')


def check_licences(folder: Path) -> None:
    """Exit with a message unless every package has a licence, and each notice of our own names the pinned version."""
    packages: dict[str, str] = json.loads((WEB / "package.json").read_text(encoding="utf-8"))["dependencies"]
    for package, version in packages.items():
        name = f"{package.removeprefix('@').replace('/', '-')}.txt"
        if not (folder / name).is_file():
            sys.exit(f"no licence of {package}: write export/web/licenses/{name}, or name its licence in VENDORED")
        own = LICENSES / name
        if own.is_file() and own.read_text(encoding="utf-8").splitlines()[0] != f"{package} {version}":
            sys.exit(
                f"export/web/licenses/{name} is not about {package} {version}: check the licence, and name it there"
            )


def main() -> None:
    """Write the folder anew."""
    shutil.rmtree(ASSETS, ignore_errors=True)
    for source, name in VENDORED.items():
        target = ASSETS / "vendor" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(PACKAGES / source, target)
    shutil.copytree(LICENSES, ASSETS / "vendor" / "licenses", dirs_exist_ok=True)
    check_licences(ASSETS / "vendor" / "licenses")
    (ASSETS / "reader" / "lib").mkdir(parents=True)
    shutil.copyfile(READER / "edgecnn.js", ASSETS / "reader" / "edgecnn.js")
    for module in sorted((READER / "lib").glob("*.js")):
        if module.name not in NODE_ONLY:
            text = BARE.sub(lambda found: found[1] + PATHS[found[2]] + found[3], module.read_text(encoding="utf-8"))
            (ASSETS / "reader" / "lib" / module.name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
