# What the benches share: peers from Debian, medians, tables, and where results go. Sourced by bench/*.
source "$(dirname "${BASH_SOURCE[0]}")/../scripts/pair.sh"

docs=$(realpath "$(dirname "${BASH_SOURCE[0]}")/../docs")

# install_packages PACKAGE…: from Debian, those that are missing; before install_extension, which links what is there.
install_packages() {
    local package missing=()
    for package; do
        [[ $(dpkg-query --show --showformat '${db:Status-Status}' "$package" 2>/dev/null || true) == installed ]] ||
            missing+=("$package")
    done
    ((${#missing[@]})) || return 0
    if ((EUID != 0)); then
        echo "please have an administrator run: apt-get install ${missing[*]}" >&2
        exit 1
    fi
    apt-get update -q >"$work/apt"
    DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends "${missing[@]}" >>"$work/apt" 2>&1 ||
        { cat "$work/apt"; exit 1; }
}

# start_quiet CLUSTER [SETTING…]: a server that does nothing unasked while it is measured, and keeps its tables in memory.
# What is on by default stays on: fsync, full_page_writes, synchronous_commit.
start_quiet() {
    start "$1" 'shared_buffers = 2GB' 'autovacuum = off' 'checkpoint_timeout = 1h' 'max_wal_size = 16GB' "${@:2}"
}

# time_of CLUSTER OPTIONS: the milliseconds that a statement takes, its commit included, in a new session.
time_of() {
    sql "$1" -c '\timing on' "${@:2}" | sed -n 's/^Time: \([0-9.]*\) ms.*/\1/p'
}

# hold_transaction DATABASE: one that has an id stays open, until release_transaction.
hold_transaction() {
    mkfifo "$work/held"
    sql source --dbname "$1" <"$work/held" >/dev/null &
    holder=$!
    exec 3>"$work/held"
    rm "$work/held"
    echo "BEGIN; CREATE TABLE held (); SELECT pg_current_xact_id();" >&3
    while [[ $(sql source -c "SELECT count(*) FROM pg_stat_activity WHERE state = 'idle in transaction'") == 0 ]]; do
        sleep 0.1
    done
}
release_transaction() {
    echo "ROLLBACK;" >&3
    exec 3>&-
    wait "$holder"
}

# progress TEXT: what is going on, on standard error.
progress() {
    printf '%s %s\n' "$(date +%T)" "$*" >&2
}

# machine PACKAGE…: where, when and with what is measured.
machine() {
    local package
    echo "$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1), $(nproc) cores," \
        "$(awk '/^MemTotal/ {printf "%.0f GB", $2 / 1e6}' /proc/meminfo), $(findmnt --noheadings --output FSTYPE --target "$work")," \
        "Linux $(uname -r); $(dpkg-query --show --showformat '${Package} ${Version}, ' postgresql-15 "$@")$(date +%F)"
}

# bars TITLE [log]: lines "group|name|value" as a picture, one bar each; with a logarithmic scale that begins at 1.
bars() {
    awk -F '|' -v title="$1" -v log_scale="${2-}" '
        function length_of(value) {
            return log_scale ? (value > 1 ? log(value) / log(max) : 0) * 430 : value / max * 430
        }
        {group[NR] = $1; name[NR] = $2; value[NR] = $3; if ($3 > max) max = $3; groups += $1 != group[NR - 1]}
        END {
            height = 44 + 18 * NR + 26 * groups
            printf "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 760 %d\" font-family=\"sans-serif\" font-size=\"12\">\n", height
            printf "<rect width=\"760\" height=\"%d\" fill=\"#fff\"/>\n<text x=\"12\" y=\"24\" font-size=\"15\">%s</text>\n", height, title
            y = 40
            for (i = 1; i <= NR; i++) {
                if (group[i] != group[i - 1]) {
                    y += 26
                    printf "<text x=\"12\" y=\"%d\" font-weight=\"bold\">%s</text>\n", y - 6, group[i]
                }
                printf "<text x=\"230\" y=\"%d\" text-anchor=\"end\">%s</text>\n", y + 12, name[i]
                printf "<rect x=\"238\" y=\"%d\" width=\"%.1f\" height=\"14\" fill=\"%s\"/>\n", y + 1, length_of(value[i]) + 1,
                    name[i] ~ /pg_table_export/ ? "#c2410c" : "#94a3b8"
                printf "<text x=\"%.1f\" y=\"%d\">%s</text>\n", 246 + length_of(value[i]), y + 12, value[i]
                y += 18
            }
            print "</svg>"
        }'
}

# curves TITLE ACROSS: lines "name|x|y" as a picture, a curve for each name.
curves() {
    awk -F '|' -v title="$1" -v across="$2" '
        BEGIN {split("#c2410c #1d4ed8 #15803d #7e22ce", colour, " ")}
        {
            if (!($1 in number)) {number[$1] = ++names; name[names] = $1}
            points[$1] = points[$1] " " $2 "," $3
            if ($2 > x_max) x_max = $2
            if ($3 > y_max) y_max = $3
        }
        END {
            print "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 760 360\" font-family=\"sans-serif\" font-size=\"12\">"
            printf "<rect width=\"760\" height=\"360\" fill=\"#fff\"/>\n<text x=\"12\" y=\"24\" font-size=\"15\">%s</text>\n", title
            print "<path d=\"M60 50V310H540\" fill=\"none\" stroke=\"#000\"/>"
            printf "<text x=\"300\" y=\"345\" text-anchor=\"middle\">%s</text>\n", across
            printf "<text x=\"540\" y=\"326\" text-anchor=\"end\">%s</text>\n", x_max
            printf "<text x=\"54\" y=\"54\" text-anchor=\"end\">%s</text>\n<text x=\"54\" y=\"314\" text-anchor=\"end\">0</text>\n", y_max
            for (i = 1; i <= names; i++) {
                count = split(substr(points[name[i]], 2), point, " ")
                printf "<polyline fill=\"none\" stroke-width=\"2\" stroke=\"%s\" points=\"", colour[i]
                for (j = 1; j <= count; j++) {
                    split(point[j], at, ",")
                    y = 310 - at[2] / y_max * 260
                    printf "%.1f,%.1f ", 60 + at[1] / x_max * 480, y
                }
                printf "\"/>\n<text x=\"548\" y=\"%.1f\" fill=\"%s\">%s</text>\n", y + 4, colour[i], name[i]
            }
            print "</svg>"
        }'
}

# publish NAME: makes what is read, in Markdown, the section NAME of docs/bench.md.
publish() {
    cat >"$work/section"
    awk -v begin="<!-- bench/$1 -->" -v end="<!-- end of bench/$1 -->" -v section="$work/section" '
        $0 == end {inside = 0}
        !inside {print}
        $0 == begin {inside = 1; while ((getline line < section) > 0) print line}
    ' "$docs/bench.md" >"$work/bench.md"
    cat "$work/bench.md" >"$docs/bench.md"
}
