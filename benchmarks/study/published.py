"""The teachers in the repository."""

import pathlib
import shutil

PUBLISHED = pathlib.Path(__file__).parents[1] / "published"


def take_published(study, budget_name, folder):
    """Copies the teachers in the repository that the folder lacks."""
    for arm in study.arms:
        name = arm.file_name(0)
        source = PUBLISHED / study.name / budget_name / f"{name}.keras"
        if arm.is_teacher and source.exists():
            for path in (source, source.with_suffix(".json")):
                if not (folder / path.name).exists():
                    shutil.copyfile(path, folder / path.name)
