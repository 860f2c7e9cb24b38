//! Aligned columns, as `kubectl get` has them: wide enough for the widest cell, three spaces between.

use super::output::shown;

/// Between two columns.
const GAP: &str = "   ";

/// Columns whose widths grow with what is shown; a row that comes later does not move earlier ones.
#[derive(Debug, Default)]
pub(super) struct Table {
    widths: Vec<usize>,
}

impl Table {
    /// Rows as lines, each ended.
    pub(super) fn rows(&mut self, rows: &[Vec<String>]) -> String {
        let rows: Vec<Vec<String>> =
            rows.iter().map(|row| row.iter().map(|cell| shown(cell)).collect()).collect();
        for row in &rows {
            for (at, cell) in row.iter().enumerate() {
                let width = cell.chars().count();
                match self.widths.get_mut(at) {
                    Some(have) => *have = (*have).max(width),
                    None => self.widths.push(width),
                }
            }
        }
        rows.iter().map(|row| self.line(row)).collect()
    }

    fn line(&self, cells: &[String]) -> String {
        let mut line = String::new();
        for (at, cell) in cells.iter().enumerate() {
            if at > 0 {
                line.push_str(GAP);
            }
            let width = self.widths.get(at).copied().unwrap_or_default();
            line.push_str(cell);
            line.extend(std::iter::repeat_n(' ', width.saturating_sub(cell.chars().count())));
        }
        line.truncate(line.trim_end().len());
        line.push('\n');
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(cells: &[&str]) -> Vec<String> {
        cells.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell_and_end_without_spaces() {
        let mut table = Table::default();
        let first = table.rows(&[row(&["NAME", "SEQ"]), row(&["ä/b/c", "1"]), row(&["x", ""])]);
        assert_eq!(first, "NAME    SEQ\nä/b/c   1\nx\n");
        assert_eq!(table.rows(&[row(&["y", "2"])]), "y       2\n");
    }

    #[test]
    fn a_cell_moves_no_cursor() {
        assert_eq!(Table::default().rows(&[row(&["a\u{1b}[2Jb\n"])]), "a\u{fffd}[2Jb\u{fffd}\n");
    }
}
