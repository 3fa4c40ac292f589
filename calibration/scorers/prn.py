"""PRN: the prototypical residual network, trained on good pictures and a few masked defects.

"Prototypical Residual Networks for Anomaly Detection and Localization" (Zhang et al., CVPR 2023).
The network is in `calibration.prn`, the anomalies that it is taught are `calibration.anomalies`'.
Its map is a probability, not smoothed; a picture's score is the mean of its highest pixels, 100 at
256 x 256 (section 4.1) and the same share of them at other sizes.

Section 4.1's schedule is 700 epochs of 64 pictures a batch at a rate of 1e-4: 290,000 pictures
for the 209 of bottle, hours on a GPU and weeks on a CPU's core. On a GPU that is the default. On a
CPU it is 8 pictures a batch, in the same shares, at a rate of 1e-3, for 30 epochs. The weight
decay of 1e-2 is decoupled (AdamW): added to gradients as small as those of a focal loss with
gamma 4 it would be all that there is to learn.

Prototypes are 1.8 MB each at 256 x 256 with ResNet-18, beside 43 MB of network: the model's file
has 82 MB for the 209 good pictures of bottle (21 prototypes). `max_prototypes` bounds it at 117 MB
where there are many pictures; what was taken stands in the report.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from time import monotonic

import torch

from calibration.anomalies import AnomalyGenerator, FolderTextures, Kind, ProceduralTextures
from calibration.averaging import Averaged
from calibration.backbones import Backbone, Network
from calibration.features import HalfArray, cached_maps
from calibration.prn.course import PRNCourse
from calibration.prn.examples import Anomalies, Frozen, Shares, kinds_named, seen_defects
from calibration.prn.network import PRN, Head, modules_named, stage_sizes
from calibration.prototypes import Prototypes, Residual, cluster_rows, prototype_count
from calibration.scorers import Fitted, Material, Option, Report
from calibration.trained import curves_of, facts_of, remarks_of
from calibration.training import Plan, is_mixed, train
from inspectd.core.errors import ConfigError

TOP_SHARE = 100 / 256**2
"""Section 4.1: 100 pixels of 256 x 256."""
WEIGHT_DECAY = 1e-2
SEEN = 10
"""Section 4.1."""
JUDGED_EVERY = 50
"""Steps between two looks at the hold-out set."""
PATIENCE = 20
AUTOMATIC = 0


@dataclass(frozen=True, slots=True)
class Schedule:
    """How it is trained."""

    batch: int
    """Pictures."""
    rate: float
    """Adam's."""
    epochs: int
    """Times each good picture is shown as normal."""


SCHEDULES = {"cuda": Schedule(64, 1e-4, 700), "cpu": Schedule(8, 1e-3, 30)}
"""By device; the first is section 4.1's."""


@dataclass(frozen=True, slots=True)
class PRNScorer:
    """The scorer: see the module. Options that can't be meant are a `ConfigError`."""

    ratio: float = 0.1
    """Prototypes as a share of the good pictures (section 4.1, table 6)."""
    max_prototypes: int = 40
    """At each scale."""
    residual: Residual = "absolute"
    """`absolute` or `squared` difference of each element."""
    modules: str = "prototypes,fusion,attention"
    """Those that there are (table 4's MP, MF and MSA); `none` for the bare U-Net."""
    kinds: str = "extended,heterologous,homologous"
    """Of anomalies that are taught (table 5)."""
    unchanged: float = 0.5
    """Share of the extended anomalies that are seen defects as they are; the paper's is 0."""
    textures: str = ""
    """Folder of pictures for heterologous anomalies, such as DTD; empty: drawn by procedure."""
    seen_limit: int = SEEN
    """Real defects that are learned from."""
    batch: int = AUTOMATIC
    """Pictures; 0: as the schedule of the device has it. So below."""
    learning_rate: float = AUTOMATIC
    """Adam's learning rate."""
    epochs: int = AUTOMATIC
    """Times each good picture is shown as normal, at most."""
    patience: int = PATIENCE
    """Looks at the hold-out set without a better figure after which training ends."""
    name: str = field(default="prn", init=False)
    is_trained: bool = field(default=True, init=False)

    def __post_init__(self) -> None:
        if not 0 < self.ratio <= 1:
            raise ConfigError(f"ratio is a share of the good pictures, not {self.ratio}")
        if self.residual not in ("absolute", "squared"):
            raise ConfigError(f"residual is 'absolute' or 'squared', not {self.residual!r}")
        if not 0 <= self.unchanged <= 1:
            raise ConfigError(f"unchanged is a share from 0 to 1, not {self.unchanged}")
        if self.batch != AUTOMATIC and self.batch < 4:
            raise ConfigError(
                f"batch is at least 4 pictures, or 0 for the default, not {self.batch}"
            )
        for option in ("seen_limit", "learning_rate", "epochs"):
            if getattr(self, option) < 0:
                raise ConfigError(f"{option} is not below 0, as {getattr(self, option)} is")
        for option in ("max_prototypes", "patience"):
            if getattr(self, option) < 1:
                raise ConfigError(f"{option} is 1 or more, not {getattr(self, option)}")
        kinds_named(self.kinds)
        modules_named(self.modules)

    def options(self) -> dict[str, Option]:
        """The settings that reproduce a fit."""
        found = asdict(self)
        return {name: found[name] for name in found if name not in ("name", "is_trained")}

    def schedule(self, device: str) -> Schedule:
        """What is asked for, and the device's schedule for the rest."""
        usual = SCHEDULES[device]
        return Schedule(
            self.batch or usual.batch, self.learning_rate or usual.rate, self.epochs or usual.epochs
        )

    def __str__(self) -> str:
        return self.name

    def fit(self, material: Material, backbone: Backbone, seed: int, report: Report) -> Fitted:
        """Learns from good pictures and seen defects; see `Scorer.fit`.

        Raises:
            ConfigError: only extended anomalies are asked for and no defect was seen; or see
                `calibration.training.train`.
            DatasetError, ImageError: the folder of textures can't serve.
        """
        started = monotonic()
        anomalies = self._anomalies(material, seed)
        course = self._course(material, backbone, anomalies, seed, report)
        plan = Plan(
            self.schedule(material.device).epochs,
            steps_per_epoch=-(-len(material.good) // anomalies.shares.normal),
            judged_every=JUDGED_EVERY,
            patience=self.patience,
        )
        outcome = train(course, plan, material, seed, report, used_s=monotonic() - started)
        known = course.prototypes
        facts = {
            **self._facts(material.device, known, anomalies),
            **facts_of(plan, outcome, material.device),
        }
        return Fitted(
            _with_plain_layout(Head(known, course.model.average).to("cpu").eval()),
            facts,
            sigma=0.0,
            top_pixels=course.top_pixels,
            highest=1.0,  # a mean of probabilities
            curves=curves_of(plan, outcome),
            remarks=remarks_of(plan, outcome),
        )

    def _course(
        self,
        material: Material,
        backbone: Backbone,
        anomalies: Anomalies,
        seed: int,
        report: Report,
    ) -> PRNCourse:
        """All that is computed once: features, prototypes, and a network to train."""
        device, good = material.device, anomalies.generator.good
        features = cached_maps(
            good,
            backbone,
            range(3),
            device=device,
            report=lambda done, total: report("extracting features", done, total),
        )
        known = self._prototypes(features, seed, report)
        size = good[0].shape[:2]
        model = self._model(size, backbone, seed).to(device)
        rate = self.schedule(device).rate
        return PRNCourse(
            model,
            torch.optim.AdamW(model.network.parameters(), rate, weight_decay=WEIGHT_DECAY),
            [one.to(device) for one in known],
            Frozen(_moved(backbone.network, device), device),
            features,
            anomalies,
            material.holdout,
            top_pixels=max(1, round(TOP_SHARE * size[0] * size[1])),
        )

    def _model(self, size: Sequence[int], backbone: Backbone, seed: int) -> Averaged[PRN]:
        """Untrained, for an input of (H, W); the same for the same seed."""
        sizes = stage_sizes((size[0], size[1]), backbone.network.strides)
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            network = PRN(backbone.network.channels, sizes, modules_named(self.modules))
        channels_last: Averaged[PRN] = Averaged(network).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return channels_last

    def _anomalies(self, material: Material, seed: int) -> Anomalies:
        kinds, seen = kinds_named(self.kinds), seen_defects(material.seen)
        if kinds == (Kind.EXTENDED,) and not seen:
            raise ConfigError(
                "extended anomalies are made from seen defects, and there is none with a mask; "
                "give --holdout a folder with masks, or add another kind"
            )
        good = list(material.good)  # read for every anomaly: kept in memory
        shares = Shares(self.schedule(material.device).batch, self.unchanged)
        textures = FolderTextures(Path(self.textures)) if self.textures else ProceduralTextures()
        generator = AnomalyGenerator(good, seen, textures, seed, regions=material.regions)
        return Anomalies(generator, kinds, shares)

    def _prototypes(self, features: list[HalfArray], seed: int, report: Report) -> list[Prototypes]:
        """At each scale; none where the modules do without."""
        if not modules_named(self.modules).prototypes:
            return []
        count = prototype_count(len(features[0]), self.ratio, self.max_prototypes)
        found = []
        for index, stage in enumerate(features):
            means = cluster_rows(stage.reshape(len(stage), -1), count, seed)
            maps = torch.from_numpy(means).reshape(count, *stage.shape[1:])  # (K, C, H, W)
            found.append(Prototypes(maps, self.residual))
            report("clustering feature maps", index + 1, len(features))
        return found

    def _facts(
        self, device: str, known: Sequence[Prototypes], anomalies: Anomalies
    ) -> dict[str, str]:
        schedule, shares = self.schedule(device), anomalies.shares
        facts = {
            "batch": f"{shares.normal} normal, {shares.extended} extended, "
            f"{shares.simulated} simulated; rate {schedule.rate:g}",
            "seen defects": str(len(anomalies.generator.seen)),
            "mixed precision": "bfloat16" if is_mixed(device) else "none",
        }
        if known:
            megabytes = sum(4 * one.maps.numel() for one in known) / 1e6
            facts["prototypes"] = f"{len(known[0].maps)} at each scale, {megabytes:.0f} MB"
        return facts


def _moved(network: Network, device: str) -> Network:
    """The network on the device; where that is another one, a copy."""
    return network if device == "cpu" else copy.deepcopy(network).to(device)


def _with_plain_layout(head: Head) -> Head:
    """Undoes channels-last, so that the exported bytes don't depend on it."""
    for tensor in head.state_dict(keep_vars=True).values():
        tensor.data = tensor.data.contiguous()
    return head
