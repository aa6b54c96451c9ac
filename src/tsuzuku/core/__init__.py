"""Names, settings, files and the store. Nothing here imports torch or a plug-in."""
