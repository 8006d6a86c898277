"""Rules and formats: numpy and OpenCV, no engine, no network."""
