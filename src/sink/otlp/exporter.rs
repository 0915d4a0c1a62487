//! The thread `cortex-export` and the queue before it.
