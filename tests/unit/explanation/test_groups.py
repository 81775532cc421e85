"""Each feature is in a group, and has a contributor where its value is a sum over receipts or basket."""

from collections import Counter

from ensemble.candidate_sampler.features import FEATURES
from ensemble.explanation.evidence import TERMS
from ensemble.explanation.groups import GROUPS, MEANINGS, MOST, columns


def test_each_feature_is_in_one_group() -> None:
    """A new feature is entered in GROUPS."""
    assert Counter(name for names in GROUPS.values() for name in names) == Counter(FEATURES)


def test_the_columns_of_the_groups_are_all_columns() -> None:
    found = columns()
    assert sorted(place for places in found.values() for place in places.tolist()) == [*range(len(FEATURES))]
    assert {name: [FEATURES[k] for k in places] for name, places in found.items()} == {
        name: sorted(names, key=FEATURES.index) for name, names in GROUPS.items()
    }


def test_all_coalitions_of_the_groups_can_be_asked() -> None:
    assert len(GROUPS) <= MOST
    assert set(MEANINGS) == set(GROUPS)


def test_terms_belong_to_features() -> None:
    assert set(TERMS) <= set(FEATURES)
