"""``python -m moodlectl``."""

from moodlectl.start import main

main()
