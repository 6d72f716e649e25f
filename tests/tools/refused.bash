# A tool's refusal, as most files of tests here check it: load refused

refused() {     # refused STATUS WORDS COMMAND...: one line on stderr that has the words
    run --separate-stderr "-$1" "${@:3}"
    [ "${#stderr_lines[@]}" = 1 ] || { echo "$stderr"; false; }
    [[ $stderr == *"$2"* ]] || { echo "$stderr"; false; }
}
