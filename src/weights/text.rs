//! Names from files, made fit for a message.

/// `name` as a message shows it: control characters escaped, because a terminal would obey them,
/// and cut where a hostile file made it long.
pub(crate) fn shown(name: &str) -> String {
    const LONGEST: usize = 120;
    let mut text: String = name.chars().take(LONGEST).flat_map(char::escape_debug).collect();
    if name.chars().nth(LONGEST).is_some() {
        text.push_str("...");
    }
    text
}
