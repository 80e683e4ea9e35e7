"""The network of each scorer; adding one is adding an entry here and to `SCORERS` in presets.py."""

from tier4k.extract.encoders.text_tokenizer import TextTokenizer
from tier4k.extract.scorers.blip_network import BlipScoreNetwork, ImageRewardNetwork
from tier4k.extract.scorers.called import CalledScorer
from tier4k.extract.scorers.called_network import CalledNetwork
from tier4k.extract.scorers.choices import ScorerName
from tier4k.extract.scorers.clip_network import ClipNetwork
from tier4k.extract.scorers.find import AnyScorer
from tier4k.extract.scorers.pair_network import PairNetwork
from tier4k.extract.scorers.scorer import Scorer

NETWORKS: dict[ScorerName, type[PairNetwork]] = {
    "clipscore": ClipNetwork,
    "pickscore": ClipNetwork,
    "blipscore": BlipScoreNetwork,
    "imagereward": ImageRewardNetwork,
}


def load_scorer_tokenizer(scorer: Scorer) -> TextTokenizer:
    """Load the tokenizer of a scorer alone, which truncates texts as the scorer reads them.

    Raises:
        WeightsError: Its files are damaged.
    """
    network = NETWORKS[scorer.preset.name]
    return network.truncating(network.load_tokenizer(scorer), scorer)


def load_scorer_network(scorer: AnyScorer) -> PairNetwork | CalledNetwork:
    """Build the network of a scorer and load its weights, in evaluation mode.

    Raises:
        EncoderError, PluginError: A scorer of another package cannot be made.
        WeightsError: The weights do not fit.
    """
    if isinstance(scorer, CalledScorer):
        return CalledNetwork(scorer)
    return NETWORKS[scorer.preset.name].of(scorer)
