//! Pure decisions: allocation, announcement, Maglev, and the diff between what is and what is to be.

pub mod step;
