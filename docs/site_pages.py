"""Hook of mkdocs: makes pages of the documents that lie beside docs/, and adapts the links between them and those in docs/."""

import posixpath
import re
from pathlib import Path

from mkdocs.structure.files import File

REPOSITORY = Path(__file__).resolve().parents[1]
BESIDE = {  # in the repository -> in the site
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "benchmarks/README.md": "benchmarks.md",
}
LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s]+)\)")
CODE = re.compile(r"(```.*?```|`[^`\n]+`)", re.DOTALL)


def on_files(files, config):
    """Add the pages."""
    for source, name in BESIDE.items():
        text = (REPOSITORY / source).read_text(encoding="utf-8")
        files.append(File.generated(config, name, content=text))
    return files


def on_page_markdown(markdown, page, config, files):
    """Links of a page as the site needs them; one to what is no page of it (a licence, a folder of code) becomes plain text."""
    place = next((source for source, name in BESIDE.items() if name == page.file.src_uri), f"docs/{page.file.src_uri}")

    def link(match):
        image, words, target = match.groups()
        name, hash_, anchor = target.partition("#")
        if not name or re.match(r"[a-z]+:", name):
            return match[0]
        path = posixpath.normpath(posixpath.join(posixpath.dirname(place), name))
        inside = BESIDE.get(path, path.removeprefix("docs/"))
        if files.get_file_from_path(inside) is not None and (path in BESIDE or path.startswith("docs/")):
            return f"{image}[{words}]({inside}{hash_}{anchor})"
        # A link that leads nowhere stays, so that the build reports it
        return words if (REPOSITORY / path).exists() else match[0]

    parts = CODE.split(markdown)
    return "".join(part if number % 2 else LINK.sub(link, part) for number, part in enumerate(parts))
