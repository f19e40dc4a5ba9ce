//! The cmdlets of an edge device's PowerShell interface, as pure text.
//!
//! `cmdlet` says which there are and what they take. `bind` reads arguments as PowerShell does, `failure`
//! and `display` write what it would write, `help` is what `Get-Help` shows, `module` a PowerShell module
//! for those who sit elsewhere. Who carries a cmdlet out is the command line.

pub mod bind;
pub mod cmdlet;
pub mod display;
pub mod failure;
pub mod help;
pub mod module;
