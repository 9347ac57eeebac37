"""What each setting of AdaHessian buys: settings that differ in one thing, each at its own best learning rate."""
