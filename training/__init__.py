"""Fine-tuning: labelled rows in, a model directory out."""
