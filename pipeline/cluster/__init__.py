"""Connection to Ray, and the hardware and health of the machines that a run uses."""
