"""The three sizes at which every experiment and chapter can run."""

from lop_utils.errors import check_choice

PROFILES = ("smoke", "laptop", "paper")
JUDGED = ("laptop", "paper")  # smoke only shows that everything runs


def check(profile: str) -> str:
    """Return `profile`, or raise `UsageError` naming the known ones.

    >>> check("smoke")
    'smoke'
    """
    check_choice("profile", profile, PROFILES)
    return profile
