//! Precedence of a thread over all ordinary ones.
#![expect(
    unsafe_code,
    reason = "sched_setscheduler(2) and setpriority(2) have no safe wrapper"
)]

use std::io;

/// Above ordinary threads and below those of the kernel that a machine stalls without.
const PRIORITY: i32 = 10;
/// The most that nice(2) gives.
const NICEST: i32 = -20;

/// What the thread was given.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Precedence {
    /// It runs whenever it has something to do (`SCHED_FIFO`).
    Realtime,
    /// It gets a larger share than ordinary threads.
    Nice,
}

/// Gives the calling thread precedence, as much as the kernel allows. Its children get none.
///
/// # Errors
/// The kernel allows nothing, for want of `CAP_SYS_NICE`.
pub fn take_precedence() -> io::Result<Precedence> {
    let parameters = libc::sched_param {
        sched_priority: PRIORITY,
    };
    let policy = libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK;
    // SAFETY: 0 is the calling thread, and the kernel only reads the parameters.
    if unsafe { libc::sched_setscheduler(0, policy, &raw const parameters) } == 0 {
        return Ok(Precedence::Realtime);
    }
    // SAFETY: plain numbers; 0 is the calling thread on Linux.
    if unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICEST) } == 0 {
        return Ok(Precedence::Nice);
    }
    Err(io::Error::last_os_error())
}
