//! Rules into the programs' table: compile, fill the generation not in use, read back, flip.

use steering_common::rule::{Rule, compile};

use super::SteeringError;
use super::maps::Maps;

/// Puts `rules` in force and gives the number of table entries they take.
///
/// A packet sees the old rules or the new ones, never a mixture: the programs read one number
/// that says which generation to walk. On an error the old rules stay.
pub(crate) fn publish(maps: &mut Maps, rules: &[Rule]) -> Result<usize, SteeringError> {
    let table = compile(rules).map_err(SteeringError::Compile)?;
    let idle = maps.active()? ^ 1;
    maps.write_table(idle, &table)?;
    if maps.read_table(idle)? != table {
        return Err(SteeringError::TableReadBack { generation: idle });
    }
    maps.activate(idle)?;
    Ok(table.len())
}
