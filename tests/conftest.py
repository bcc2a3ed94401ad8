from __future__ import annotations

import functools
import gc
import os
import shutil
import sys
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna
import pytest
from filelock import FileLock
from hypothesis import HealthCheck, settings
from packages import (
    DEEPFOREST,
    SOLARIS,
    STARDIST,
    PackageFiles,
    fetch_package,
    install,
    unpack,
)

Once = Callable[[str, Callable[[Path], object]], Path]
if TYPE_CHECKING:
    from rfsearch.measure.latency import Latency

# Rooms share helpers.
sys.path.extend(str(room) for room in Path(__file__).parent.iterdir() if room.is_dir())

# The networks here are small: threads would only wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# The same examples in every run, on machines of any speed.
for profile, examples in (("rfsearch", 25), ("thorough", 400)):
    settings.register_profile(
        profile,
        max_examples=examples,
        derandomize=True,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
    )
settings.load_profile("rfsearch")  # `--hypothesis-profile=thorough` draws more.


def pytest_configure(config: pytest.Config) -> None:
    # torch warns so, once, whenever `torch.backends.mkldnn.flags` is used without an Intel GPU.
    ignored = "ignore:TF32 acceleration on top of oneDNN:UserWarning"
    config.addinivalue_line("filterwarnings", ignored)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Keeps the garbage collector from what stays: modules and tests, 800,000 objects."""
    gc.disable()
    result = yield
    gc.freeze()
    gc.set_threshold(20_000, 10, 10)  # Caches of architectures stay too, and are many.
    gc.enable()
    return result


def pytest_unconfigure() -> None:
    gc.unfreeze()


@pytest.fixture(scope="session")
def package_files(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> PackageFiles:
    """Unpacks files of a package into a folder, or skips the test if it cannot be fetched."""
    cache = request.config.cache.mkdir("packages")
    # A package that cannot be fetched is not tried again.
    wheel_of = functools.cache(lambda package: fetch_package(package, cache))

    def files(package: str, pattern: str) -> Path:
        wheel = wheel_of(package)
        if wheel is None:
            pytest.skip(f"{package} cannot be fetched")
        return unpack(wheel, pattern, tmp_path_factory.mktemp("package"))

    return files


@pytest.fixture(scope="session")
def site_of_packages(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A folder as if the packages with images were installed there; skips without them."""
    cache = request.config.cache.mkdir("packages")
    folder = tmp_path_factory.mktemp("site")
    for package in (DEEPFOREST, SOLARIS, STARDIST):
        wheel = fetch_package(package, cache)
        if wheel is None:
            pytest.skip(f"{package} cannot be fetched")
        install(wheel, folder)
    return folder


@pytest.fixture
def installed_images(site_of_packages: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets the packages with images be found."""
    monkeypatch.syspath_prepend(str(site_of_packages))


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of images for this test alone."""
    monkeypatch.setenv("RFSEARCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(autouse=True)
def quiet_optuna() -> Iterator[None]:
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    yield
    optuna.logging.set_verbosity(before)


@pytest.fixture(scope="module")
def small_heap() -> None:
    """Keeps all that other tests have left from the garbage collector, which is called often."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True, scope="session")
def quick_gaussian_process() -> Iterator[None]:
    """Lets Optuna's Gaussian process look for its next proposal in fewer places."""
    init = optuna.samplers.GPSampler.__init__

    def quick(self: optuna.samplers.GPSampler, *arguments: Any, **options: Any) -> None:
        init(self, *arguments, **options)
        self._n_preliminary_samples, self._n_local_search = 256, 2

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(optuna.samplers.GPSampler, "__init__", quick)
        yield


@pytest.fixture(autouse=True)
def closed_databases() -> Iterator[None]:
    """Closes the databases that the test has opened itself."""
    from studies import OPENED

    with OPENED:
        yield


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory) -> Once:
    """Makes a folder of a name once for all processes that run tests."""
    root = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent

    def made(name: str, make: Callable[[Path], object]) -> Path:
        with FileLock(root / f"{name}.lock"):
            if not (root / name).exists():
                part = tmp_path_factory.mktemp("part") / name
                make(part)
                part.rename(root / name)
        return root / name

    return made


@pytest.fixture(scope="session")
def searched_once(once: Once) -> Path:
    # Imported here, after the number of threads is set, which torch reads when it is loaded.
    from experiments_on_folders import run_experiment, write_experiment

    return once("bright", lambda folder: run_experiment(write_experiment(folder)))


@pytest.fixture
def searched(searched_once: Path, tmp_path: Path) -> Path:
    """An experiment on a folder of images that has run, with trials of all kinds."""
    return shutil.copytree(searched_once, tmp_path / "bright")


@pytest.fixture(scope="session")
def exported_once(searched_once: Path, once: Once, any_latency: Latency) -> Path:
    from experiments_on_folders import HAS_ONNX

    from rfsearch.export.export import write_network
    from rfsearch.export.trained_network import trained_network
    from rfsearch.search.experiment import Experiment
    from rfsearch.search.study import open_study

    def export(folder: Path) -> None:
        experiment = Experiment.load(searched_once, "cpu")
        with open_study(experiment) as study:
            network = trained_network(experiment, study)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("rfsearch.export.export.measure_latency", lambda *_: any_latency)
            write_network(network, folder, onnx=HAS_ONNX)

    return once("network", export)


@pytest.fixture
def exported(exported_once: Path, tmp_path: Path) -> Path:
    """The best network of the experiment, exported; with `model.onnx` where that can be."""
    return shutil.copytree(exported_once, tmp_path / "network")


@pytest.fixture
def plain_cards(monkeypatch: pytest.MonkeyPatch, any_latency: Latency) -> None:
    """Writes networks without timing them and without a picture of their fields."""
    from matplotlib.figure import Figure

    monkeypatch.setattr("rfsearch.export.export.measure_latency", lambda *_: any_latency)
    monkeypatch.setattr("rfsearch.export.export.erf_heat_map", lambda *_: Figure())


@pytest.fixture(scope="session")
def any_latency() -> Latency:
    from rfsearch.measure.latency import BatchLatency, Latency

    batches = (BatchLatency(1, 2.0, 0.1, 50, 3.0), BatchLatency(32, 40.0, 2.0, 5, 60.0))
    return Latency(batches, (16, 16), "processor", "float32")


@pytest.fixture(scope="session")
def stored_once(once: Once) -> Path:
    from search_results import searched_study
    from studies import closing_all

    def search(file: Path) -> None:
        with closing_all():
            searched_study(trials=20, storage=f"sqlite:///{file}")

    return once("study.db", search)


@pytest.fixture(scope="session")
def network_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small network as `rfsearch export` writes it: of 2 channels and 24x32 px."""
    import torch
    from helpers import architecture, stage_dict

    from rfsearch.network.network_folder import InputFormat, create_network, save_network

    form = InputFormat((24, 32), (0.1, 0.2), (0.4, 0.5), ("a", "b"))
    folder = tmp_path_factory.mktemp("folders") / "network"
    folder.mkdir()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        save_network(create_network(architecture(stage_dict(kernels=(3, 3))), form), form, folder)
    return folder
