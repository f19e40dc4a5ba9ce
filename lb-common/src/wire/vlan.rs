//! VLAN tags, IEEE 802.1Q and 802.1ad.

use crate::addr::Be16;
use crate::frame::{Frame, Window};
use crate::wire::eth::ether_type;

/// Octets of a tag.
pub const LENGTH: usize = 4;

/// Steps over at most two tags: the EtherType behind them and where its payload begins.
///
/// A third tag is left as the EtherType, which nobody knows.
#[inline(always)]
pub fn skip<F: Frame + ?Sized>(
    frame: &F,
    mut ether_type: Be16,
    mut payload: usize,
) -> Option<(Be16, usize)> {
    for _ in 0..2 {
        if ether_type != ether_type::VLAN && ether_type != ether_type::SERVICE_VLAN {
            break;
        }
        let tag = frame.window::<LENGTH>(payload)?;
        ether_type = tag.be16::<2>();
        payload += LENGTH;
    }
    Some((ether_type, payload))
}
