"""What a run ends with: a terminal table (`text`) and one self-contained HTML page (`build`)."""
