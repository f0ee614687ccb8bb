"""Run notebooks from the first cell to the last: `python execute.py [NAME …] [--out DIR]`.

The outputs are written into the notebooks, or to copies in DIR. Needs `pip install
'vercomp[notebooks]'`. What changes from one run to the next without meaning (times, counters of
cells, versions) is left out.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import nbformat
from nbclient import NotebookClient

FOLDER = Path(__file__).parent


def executed(path: Path) -> nbformat.NotebookNode:
    """The notebook with the outputs of a run in its own folder."""
    notebook = nbformat.read(path, as_version=4)
    kept = dict(notebook.metadata)
    where = {"metadata": {"path": str(path.parent)}}
    NotebookClient(notebook, timeout=600, record_timing=False, resources=where).execute()
    notebook.metadata = nbformat.from_dict(kept)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.execution_count = None
            for output in cell.outputs:
                if output.output_type == "execute_result":
                    output.execution_count = None

    return notebook


def main() -> None:
    """Run all notebooks beside this file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="of notebooks; all by default")
    parser.add_argument("--out", type=Path, default=FOLDER, help="where the results are written")
    options = parser.parse_args()
    for path in sorted(FOLDER.glob("*.ipynb")):
        if not options.names or path.stem in options.names:
            nbformat.write(executed(path), options.out / path.name)
            print(f"ran {path.name}")


if __name__ == "__main__":
    main()
