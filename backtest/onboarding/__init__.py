"""The demo, new project folders, and checks of this machine."""
