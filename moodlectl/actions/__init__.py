"""What users come for. Each deed has a ``plan()`` that reads and a ``run()`` that acts on that plan."""
