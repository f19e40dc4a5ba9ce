//! BGP-4, as far as a speaker that only advertises needs it.
