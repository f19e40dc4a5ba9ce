//! The composition root: builds adapters, starts tasks, stops them in order.
