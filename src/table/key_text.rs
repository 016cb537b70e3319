//! Keys as people read and type them: like rows of the key's columns, as PostgreSQL writes rows (rowtypes.c,
//! record_out and record_in).

/// Writes the values of a key: `(7)` or `(7,"a b")`.
pub fn write(values: &[Option<String>]) -> String {
    let is_special = |c: char| c.is_ascii_whitespace() || c == '\x0b' || "\"\\(),".contains(c);
    let field = |value: &Option<String>| match value {
        None => String::new(),
        Some(value) if value.is_empty() || value.contains(is_special) => {
            format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\"\""))
        }
        Some(value) => value.clone(),
    };
    format!("({})", values.iter().map(field).collect::<Vec<_>>().join(","))
}

/// Reads the values of a key; `None` if it is written in another way, or a value is null.
pub fn read(text: &str) -> Option<Vec<String>> {
    let mut rest = text.strip_prefix('(')?.strip_suffix(')')?.chars().peekable();
    let (mut values, mut value, mut is_null, mut is_quoted) = (Vec::new(), String::new(), true, false);
    while let Some(c) = rest.next() {
        match c {
            '"' if is_quoted && rest.next_if_eq(&'"').is_some() => value.push('"'),
            '"' => (is_quoted, is_null) = (!is_quoted, false),
            '\\' => {
                value.push(rest.next()?);
                is_null = false;
            }
            ',' if !is_quoted && is_null => return None,
            ',' if !is_quoted => {
                values.push(std::mem::take(&mut value));
                is_null = true;
            }
            '(' | ')' if !is_quoted => return None,
            c => {
                value.push(c);
                is_null = false;
            }
        }
    }
    values.push(value);
    (!is_quoted && !is_null).then_some(values)
}

#[cfg(test)]
mod tests {
    use super::{read, write};

    #[test]
    fn what_is_written_is_read() {
        for values in [
            vec!["7"],
            vec!["7", "a b"],
            vec![""],
            vec!["", "\"", "\\", "a\"\"b\\\\", "(", ")", ",", " ", "\t\n\r\u{b}\u{c}", "é", "NULL"],
        ] {
            let text = write(&values.iter().map(|value| Some((*value).to_owned())).collect::<Vec<_>>());
            assert_eq!(read(&text).unwrap(), values, "{text}");
        }
    }

    #[test]
    fn what_is_no_key_is_told() {
        for text in ["", "7", "()", "(7", "7)", "(7,)", "(,7)", "(\"7)", "(7\\)", "(7),(8)", "((7))"] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
