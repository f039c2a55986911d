"""Schedules the runs, one at a time or several, each on its own cores."""

import pathlib
import queue
import subprocess
import sys
import time
from concurrent import futures

from benchmarks.study import machine
from benchmarks.study.published import take_published


def run_all(
    study,
    budget_name,
    regimes=None,
    methods=None,
    seeds=(0,),
    data_path=None,
    output="results",
    processes=1,
):
    """Does the requested runs, and prints their results.

    Args:
        study: The `Study`.
        budget_name: Name of its budget.
        regimes: Names of regimes, or `None` for all.
        methods: Names of arms, or `None` for all.
        seeds: Seeds of the students; teachers have seed 0.
        data_path: Where the images are, or `None`.
        output: Folder of the studies' folders.
        processes: Number of runs at a time.
    """
    from benchmarks.study import report
    from benchmarks.study.run import run

    budget = known(study.budgets, [budget_name], "budgets")[0]
    arms = chosen(study, regimes, methods)
    begin = time.time()
    folder = pathlib.Path(output, study.name, budget_name)
    folder.mkdir(parents=True, exist_ok=True)
    take_published(study, budget_name, folder)
    data = study.load_data(budget, data_path)
    teachers = teachers_of(study, arms)
    for arm in teachers:
        run(study, budget, arm, 0, data, folder)
    runs = [
        (arm, seed)
        for seed in seeds
        for arm in arms
        if not arm.is_teacher and (seed != 0 or arm not in teachers)
    ]
    if processes > 1:
        in_processes(runs, study, budget_name, data_path, output, processes)
    else:
        for arm, seed in runs:
            run(study, budget, arm, seed, data, folder)
    print(f"\n{(time.time() - begin) / 60:.0f} minutes\n")
    report.show(study, folder)


def known(values, names, what):
    """Returns the values of a dict that have the given names."""
    unknown = set(names) - set(values)
    if unknown:
        raise SystemExit(
            f"Unknown: {', '.join(sorted(unknown))}. The {what} are "
            f"{', '.join(values)}."
        )
    return [values[name] for name in names]


def chosen(study, regimes, methods):
    """Returns the arms with one of the regimes and one of the names."""
    known(
        dict.fromkeys(arm.regime for arm in study.arms),
        regimes or (),
        "regimes",
    )
    known(
        dict.fromkeys(arm.name for arm in study.arms), methods or (), "methods"
    )
    return [
        arm
        for arm in study.arms
        if (regimes is None or arm.regime in regimes)
        and (methods is None or arm.name in methods)
    ]


def teachers_of(study, arms):
    """Returns the arms that train teachers, in the study's order."""
    needed = [arm.teacher for arm in arms]
    needed += [(arm.name, arm.regime) for arm in arms if arm.is_teacher]
    return [arm for arm in study.arms if (arm.name, arm.regime) in needed]


def in_processes(runs, study, budget_name, data_path, output, processes):
    """Does each run in a process with its own cores, `processes` at a time."""
    free = queue.SimpleQueue()
    for first in range(processes):
        free.put(machine.cores()[first::processes])
    options = ["--budget", budget_name, "--output", output]
    if data_path:
        options += ["--data", data_path]

    def process(job):
        arm, seed = job
        mine = free.get()
        command = ["-u", "-m", "benchmarks.study", study.name]
        command += ["--methods", arm.name, "--seeds", seed, *options]
        command += ["--regime", arm.regime]
        log = pathlib.Path(output, study.name, budget_name)
        log /= f"{arm.file_name(seed)}.log"
        print(f"{arm.name}, seed {seed}: see {log}", flush=True)
        try:
            with log.open("w") as file:
                subprocess.run(
                    [sys.executable, *map(str, command)],
                    preexec_fn=lambda: machine.keep_to(mine),
                    stdout=file,
                    stderr=subprocess.STDOUT,
                    check=True,
                )
        finally:
            free.put(mine)

    with futures.ThreadPoolExecutor(processes) as pool:
        list(pool.map(process, runs))
