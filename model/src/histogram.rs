//! Distributions of delays, in the layout that the kernel program fills: merging is adding.
