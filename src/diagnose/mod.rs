//! From a profile to findings: pure rules, no I/O, no clock.
