"""Steps whose answers the model draws itself: drawn, judged, kept on the disk, served."""
