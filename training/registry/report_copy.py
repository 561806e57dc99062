"""The report of a registered model, taken out of the registry."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from training.errors import OutputError, RegistryError

from .registry import Registered, artefact_folder, download, report_file


def copy_report(registered: Registered, output: Path) -> None:
    """Copy the report to the file `output`, whole or not at all.

    RegistryError if the version has none or another than was registered, OutputError if the file cannot be written.
    """
    with tempfile.TemporaryDirectory() as scratch:
        report = report_file(artefact_folder(download(registered, Path(scratch)), registered).parent, registered)
        if report is None:
            raise RegistryError(f"{registered}: registered without a report")
        partial = output.with_name(f"{output.name}.partial")
        try:
            shutil.copy(report, partial)
            partial.replace(output)
        except OSError as error:
            partial.unlink(missing_ok=True)
            raise OutputError(f"{output}: cannot be written ({error.strerror})") from None
