"""Options of the speed of an extraction: batch size, workers, device, Ray."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from tier4k.heads.commands import panels
from tier4k.heads.commands.completion import choices
from tier4k.heads.commands.ranges import not_negative

if TYPE_CHECKING:
    from tier4k.extract.pipeline.options import ExtractionOptions


@dataclass(frozen=True)
class SpeedGroup:
    """Batch size, workers and device. They change the speed of an extraction, but not the features."""

    batch_size: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Images or crops per batch.",
            show_default="256, or measured",
            rich_help_panel=panels.SPEED,
        ),
    ] = None
    workers: Annotated[
        int | None,
        typer.Option(
            min=0,
            metavar="N",
            help="Threads that read images.",
            show_default="one per core",
            rich_help_panel=panels.SPEED,
        ),
    ] = None
    device: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="auto, cpu, cuda, cuda:N, cuda:all or mps.",
            autocompletion=choices(("auto", "cpu", "cuda", "cuda:all", "mps")),
            rich_help_panel=panels.SPEED,
        ),
    ] = "auto"

    def extraction_options(self) -> "ExtractionOptions":
        """Return the options of an extraction with this batch size, number of workers and device."""
        from tier4k.extract.pipeline.options import ExtractionOptions, default_workers

        workers = default_workers() if self.workers is None else self.workers
        return ExtractionOptions(workers, self.batch_size, device=self.device)


EngineName = Literal["local", "ray"]


@dataclass(frozen=True)
class EngineGroup(SpeedGroup):
    """Options of encoding on this machine, or on the machines of a Ray cluster."""

    engine: Annotated[
        EngineName,
        typer.Option(
            help="This machine, or a Ray cluster.",
            rich_help_panel=panels.SPEED,
        ),
    ] = "local"
    address: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Address of a Ray cluster, or auto.",
            show_default="a new one",
            rich_help_panel=panels.SPEED,
        ),
    ] = None
    actors: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Processes of Ray that encode.",
            show_default="one per GPU",
            rich_help_panel=panels.SPEED,
        ),
    ] = None
    gpus_per_actor: Annotated[
        float | None,
        typer.Option(
            callback=not_negative,
            metavar="N",
            help="GPUs of each Ray process, such as 0.5.",
            show_default="1, or 0",
            rich_help_panel=panels.SPEED,
        ),
    ] = None

    def extraction_options(self) -> "ExtractionOptions":
        """Return the options of an extraction, with those of Ray if it is the engine.

        Raises:
            typer.BadParameter: Options do not fit the engine.
        """
        from tier4k.extract.pipeline.options import RayOptions

        options = super().extraction_options()
        if self.engine == "local":
            self._require_no_ray_options()
            return options
        return replace(options, ray=RayOptions(self.address, self.actors, self._gpus_for_ray()))

    def _require_no_ray_options(self) -> None:
        given = {
            "--address": self.address,
            "--actors": self.actors,
            "--gpus-per-actor": self.gpus_per_actor,
        }
        for name, value in given.items():
            if value is not None:
                raise typer.BadParameter(
                    f"{name} has no effect on this machine alone: pass --engine ray too", param_hint=name
                )

    def _gpus_for_ray(self) -> float | None:
        """Return the GPUs of an actor, None if the cluster decides; refuse options of one machine."""
        if self.workers is not None:
            raise typer.BadParameter(
                "Ray decides how many processes read images: leave out --workers", param_hint="--workers"
            )
        if self.device not in ("auto", "cpu"):
            raise typer.BadParameter(
                f"{self.device!r} is a device of this machine, and Ray assigns GPUs to its processes itself: "
                "pass --gpus-per-actor 1, or --device cpu",
                param_hint="--device",
            )
        if self.device == "auto":
            return self.gpus_per_actor
        if self.gpus_per_actor:
            raise typer.BadParameter(
                "--device cpu leaves the GPUs unused: leave out one of the two options",
                param_hint="--gpus-per-actor",
            )
        return 0
