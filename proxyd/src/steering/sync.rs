//! The programs' table: fill the generation not in use, read back, flip.

use steering_common::table::Entry;

use super::SteeringError;
use super::maps::Maps;

/// Puts `table` in force.
///
/// A packet sees the old table or the new one, never a mixture: the programs read one number
/// that says which generation to walk. On an error the old table stays.
pub(crate) fn publish(maps: &mut Maps, table: &[Entry]) -> Result<(), SteeringError> {
    let idle = maps.active()? ^ 1;
    maps.write_table(idle, table)?;
    if maps.read_table(idle)? != table {
        return Err(SteeringError::TableReadBack { generation: idle });
    }
    maps.activate(idle)
}
