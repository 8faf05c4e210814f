//! Why something was done, or not.
