"""Gates: whether a finished group may be trained on. One file a part."""
