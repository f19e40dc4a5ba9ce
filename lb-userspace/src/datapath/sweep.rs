//! placeholder
use super::handle::HandleError;
use aya::Ebpf;
/// x
#[derive(Debug)]
pub struct FlowTables;
impl FlowTables {
    pub(super) fn take(_: &mut Ebpf) -> Result<Self, HandleError> {
        Ok(Self)
    }
}
