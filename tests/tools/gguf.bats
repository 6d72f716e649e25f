# gguf-import and GGUF files as MODEL operands: every family against its directory, quantised files,
# tokenizers, rope tables, refusals.
bats_require_minimum_version 1.5.0

setup() {
    BIN=${PARE_BIN:-$PWD/bin}
    ROOT=$PWD
    G=$PWD/tests/golden
    GGUF="python3 $PWD/tests/tools/gguf.py"
    export PYTHONPATH=$PWD/tests/tools:$PWD/tests/hf
    cd "$BATS_TEST_TMPDIR" || exit
}

both() {        # both DIR [TYPE] [CODE]: directory and GGUF file as streams
    $GGUF make "$1" m.gguf "${@:2}"
    "$BIN/gguf-import" m.gguf --compress none --quiet -o gguf.tsz
    "$BIN/hf-import" "$1" --compress none -o hf.tsz
}

# sayable DIR: DIR, or a copy changed into what a file of its architecture can express: layers
# without rope or a window by their fixed period, scores by key_length, norms that do not change
# when 1 is added in f32, experts in all layers.
sayable() {
    local same='
C["query_pre_attn_scalar"] = C["head_dim"]
for n, (d, s, b) in T.items():
    if len(s) == 1 and d == "F32":
        x = struct.unpack("<%df" % s[0], b)
        T[n] = d, s, struct.pack("<%df" % s[0], *(round(v * 1024) / 1024 for v in x))'
    local unbiased='
for name in list(T):
    if name.endswith("bias"):
        T.pop(name)'
    case $1 in
    */smollm3) python3 "$ROOT/tests/hf/st.py" edit "$1" said-smollm3 \
        'C["no_rope_layers"] = [1, 1, 1, 0]' ;;
    */gemma2) python3 "$ROOT/tests/hf/st.py" edit "$1" said-gemma2 "$same" ;;
    */gemma3) python3 "$ROOT/tests/hf/st.py" edit "$1" said-gemma3 "$same"'
C["layer_types"] = ["sliding_attention"] * 4' ;;
    */cohere2) python3 "$ROOT/tests/hf/st.py" edit "$1" said-cohere2 "$unbiased"'
C["attention_bias"], C["layer_types"] = False, ["sliding_attention"] * 3' ;;
    */ernie4_5) python3 "$ROOT/tests/hf/st.py" edit "$1" said-ernie4_5 "$unbiased"'
C["use_bias"] = False' ;;
    */exaone4) python3 "$ROOT/tests/hf/st.py" edit "$1" said-exaone4 \
        'C["sliding_window"], C["layer_types"] = None, ["full_attention"] * 3' ;;
    */falcon_rw | */falcon_serial | */phi_norms | */stablelm2_12b)
        return ;; # llama.cpp has no such form
    */nemotron_h* | */bamba* | */granitemoehybrid*)
        return ;; # A_log comes back rounded: hybrid.bats
    */qwen[23]_moe)
        local dense=0
        [[ $1 == */qwen3_moe ]] || dense=0,2-3
        "$BIN/slice-model" --quiet "$1" --drop-layers $dense |
            "$BIN/hf-export" --quiet - "said-${1##*/}" ;;
    *) echo "$1"; return ;;
    esac
    echo "said-${1##*/}"
}

refused() {     # refused FILE WORDS: in one line, and no file is written
    run -1 --separate-stderr "$BIN/gguf-import" "$1" -o refused.tsz
    [ "${#stderr_lines[@]}" = 1 ]
    [[ $stderr == *"$2"* ]] || { echo "$stderr"; false; }
    [ ! -e refused.tsz ]
}

changed() {     # changed CODE WORDS: llama with metadata or tensors changed is refused
    $GGUF make "$G/families/llama" m.gguf "$1"
    refused m.gguf "$2"
}

@test "every family: id and tensors are those of its directory" {
    local pairs=()
    for dir in "$G"/families/*; do
        said=$(sayable "$dir")
        [ -n "$said" ] || continue
        both "$said"
        mv gguf.tsz "${dir##*/}.gguf.tsz"
        mv hf.tsz "${dir##*/}.hf.tsz"
        pairs+=("${dir##*/}.gguf.tsz" "${dir##*/}.hf.tsz")
    done
    [ ${#pairs[@]} -gt 50 ]
    $GGUF same "${pairs[@]}"
}

@test "pruned shapes: a head size other than hidden size / heads" {
    for dir in "$G"/slice/{llama,qwen3,nemotron}/all; do
        both "$dir"
        $GGUF same gguf.tsz hf.tsz
    done
}

@test "quantised files: f32 or q8_0, rows of q and k in order, the id of the values they hold" {
    $GGUF tiny tiny
    for type in F32 Q8_0 Q4_0; do
        both tiny $type
        $GGUF same gguf.tsz hf.tsz
        "$BIN/ts-dump" gguf.tsz > $type
    done
    [ "$(grep -c ' q8_0 ' Q8_0) $(grep -c ' f32 ' Q8_0) $(grep -c ' f32 ' Q4_0)" = "15 5 20" ]
    run --separate-stderr "$BIN/gguf-import" m.gguf -o x.tsz
    local widened="tensors become f32: 15 of type Q4_0"
    [ "$stderr" = "gguf-import: $widened; no tokenizer.json: 'm.gguf' has no tokenizer" ]
}

@test "every tool takes the file as MODEL: logits are the directory's" {
    $GGUF tiny tiny
    $GGUF make tiny m.gguf Q8_0
    echo "1 2 3 4 5 6 7 8 9 10 11 12 13" | "$BIN/tokenize" --ids -o ids.tsz
    "$BIN/dump-logits" tiny ids.tsz --full --quiet --compress none -o a.tsz
    "$BIN/dump-logits" m.gguf ids.tsz --full --quiet --compress none -o b.tsz
    $GGUF near a.tsz b.tsz 1e-6
    "$BIN/ts-dump" m.gguf | grep -q 'q_proj.weight q8_0 \[64, 64\]'
    # one token at a time, straight from the packed weights, and several
    for prompt in 1 '1 2 3 4 5 6 7'; do
        [ "$("$BIN/generate" tiny --prompt-ids "$prompt" --max-new-tokens 30 --quiet)" \
            = "$("$BIN/generate" m.gguf --prompt-ids "$prompt" --max-new-tokens 30 --quiet)" ]
    done
}

@test "packed and f32: the same scores, ranks, slices and training" {
    $GGUF tiny tiny
    both tiny Q8_0
    mv gguf.tsz q8.tsz
    mv hf.tsz f32.tsz
    for i in 0 1 2 3; do echo "$i 2 3 4 5 6 7 8 9 10 11 12 $((i * 7 + 5))"; done |
        "$BIN/tokenize" --ids --seq-length 13 -o ids.tsz
    for m in q8 f32; do
        "$BIN/calib-acts" $m.tsz ids.tsz --quiet --compress none -o $m.acts
        "$BIN/rank" --magnitude $m.tsz --compress none -o $m.rank
        "$BIN/slice-model" $m.tsz --rank $m.rank --intermediate-size 64 --verify ids.tsz \
            --dtype f32 --quiet --compress none -o $m.narrow
        "$BIN/slice-model" $m.tsz --rank $m.rank --hidden-size 48 --num-attention-heads 2 \
            --dtype f32 --quiet --compress none -o $m.all
        "$BIN/slice-model" $m.tsz --rank $m.rank --sort --verify ids.tsz \
            --dtype f32 --quiet --compress none -o $m.sorted
        "$BIN/kd-train" $m.narrow --teacher $m.tsz --data ids.tsz --batch-size 2 --max-steps 3 \
            --quiet --compress none -o $m.trained
    done
    $GGUF near q8.acts f32.acts 1e-6
    cmp <("$BIN/ts-dump" --values hidden_size q8.rank) \
        <("$BIN/ts-dump" --values hidden_size f32.rank)
    cmp <("$BIN/ts-dump" --values intermediate_size.1 q8.rank) \
        <("$BIN/ts-dump" --values intermediate_size.1 f32.rank)
    $GGUF same q8.narrow f32.narrow
    $GGUF same q8.all f32.all
    $GGUF same q8.sorted f32.sorted
    $GGUF near q8.trained f32.trained 1e-5
}

@test "there and back: the directory exported from the file" {
    $GGUF tiny tiny
    $GGUF make tiny m.gguf Q8_0
    "$BIN/hf-export" m.gguf back
    python3 "$ROOT/tests/hf/st.py" same tiny back
    grep -q '"rms_norm_eps": 1e-5,' back/config.json
}

@test "a tied model that also stores its head stays tied; a different head unties it" {
    $GGUF tiny tiny
    both tiny F32 'T["output.weight"] = T["token_embd.weight"]'
    $GGUF same gguf.tsz hf.tsz
    $GGUF make tiny m.gguf F32 '
d, s, b = T["token_embd.weight"]
T["output.weight"] = d, s, b[::-1]'
    "$BIN/gguf-import" m.gguf --quiet -o x.tsz
    "$BIN/ts-dump" x.tsz | grep -q '^lm_head.weight f32 \[40, 64\]'
    "$BIN/ts-dump" --head x.tsz | grep -q '"tie_word_embeddings": false'
}

@test "llama with biases on q, k, v alone is qwen2" {
    $GGUF tiny tiny
    $GGUF make tiny m.gguf F32 '
for i in range(2):
    for n, size in ("q", 64), ("k", 32), ("v", 32):
        T["blk.%d.attn_%s.bias" % (i, n)] = "F32", [size], struct.pack("<%df" % size, *range(size))'
    "$BIN/gguf-import" m.gguf --quiet -o x.tsz
    "$BIN/ts-dump" --head x.tsz | grep -q '"model_type": "qwen2"'
    # stored 0 1 2 3 ... are channels 0 8 1 9 ... of a head of 16
    [ "$("$BIN/ts-dump" --values layers.0.q_proj.bias x.tsz | tr '\n' ' ' | cut -d ' ' \
        -f 1-3,9-10)" = "0 2 4 1 3" ]
}

@test "rope scaling: linear, yarn, divisors that are not llama3's" {
    scaling() {
        $GGUF make "$G/families/llama" m.gguf "$1"
        "$BIN/gguf-import" m.gguf --quiet | "$BIN/ts-dump" --head | tr -d ' \n' |
            sed 's/.*"rope_scaling":\({[^}]*}\).*/\1/'
    }
    [ "$(scaling 'M["llama.rope.scaling.type"] = "linear"; M["llama.rope.scaling.factor"] = 2.0')" \
        = '{"rope_type":"linear","factor":2.0}' ]
    [ "$(scaling '
M["llama.rope.scaling.type"] = "yarn"
M["llama.rope.scaling.factor"] = 4.0
M["llama.rope.scaling.original_context_length"] = 16')" \
        = '{"rope_type":"yarn","factor":4.0,"original_max_position_embeddings":16}' ]
    local list='[1.0,3.0,2.0,5.0]'
    [[ $(scaling 'T["rope_freqs.weight"] = "F32", [4], struct.pack("<4f", 1, 3, 2, 5)') \
        == '{"rope_type":"longrope","short_factor":'"$list"',"long_factor":'"$list,"* ]]
}

@test "gemma: score scale by the number of layers, a window is required; olmo2 has none" {
    edited() {
        $GGUF make "$1" m.gguf "$2"
        "$BIN/gguf-import" m.gguf --quiet 2>&1 | "$BIN/ts-dump" --head 2>&1 | grep query_pre
    }
    [[ $(edited "$G/families/gemma2" '') == *": 8"* ]]
    # 46 layers: 36 / 6; their tensors are those of layer 0
    [[ $(edited "$G/families/gemma2" '
M["gemma2.block_count"] = 46
T.update({n.replace("blk.0.", "blk.%d." % l): t
          for l in range(46) for n, t in T.items() if "blk.0." in n})') == *": 6"* ]]
    $GGUF make "$G/families/gemma2" m.gguf 'del M["gemma2.attention.sliding_window"]'
    refused m.gguf "no metadata gemma2.attention.sliding_window"
    $GGUF make "$G/families/olmo2" m.gguf 'M["olmo2.attention.sliding_window"] = 16'
    refused m.gguf "olmo2.attention.sliding_window 16 is not supported"
}

@test "phi3: longrope from its two tensors, the window from metadata" {
    $GGUF make "$G/families/phi3" m.gguf '
M["phi3.rope.scaling.original_context_length"] = 16
M["phi3.rope.scaling.attn_factor"] = 1.5
M["phi3.attention.sliding_window"] = 9
T["rope_factors_short.weight"] = "F32", [4], struct.pack("<4f", 1, 1, 1.25, 1.5)
T["rope_factors_long.weight"] = "F32", [4], struct.pack("<4f", 1, 2, 3, 4)'
    "$BIN/gguf-import" m.gguf --quiet | "$BIN/ts-dump" --head | tr -d ' \n' > head
    grep -q '"rope_scaling":{"type":"longrope","short_factor":\[1.0,1.0,1.25,1.5\],' head
    grep -q '1.5\],"long_factor":\[1.0,2.0,3.0,4.0\],"attention_factor":1.5}' head
    grep -q '"original_max_position_embeddings":16' head
    grep -q '"sliding_window":9' head
}

@test "tokenizers: ids of the golden texts through the rebuilt tokenizer.json" {
    for pair in gpt2:gpt-2 smollm:smollm qwen2:qwen2 llama3:llama-bpe spm:spm; do
        name=${pair%:*}
        $GGUF vocab "$G/tokenizers_small/$name.json" m.gguf "${pair#*:}"
        "$BIN/tokenize" -m m.gguf --bos no --quiet "$G/tokenizers_small/$name.jsonl" | python3 -c '
import json, stream, struct, sys
got = [list(struct.unpack("<%dI" % (len(d) // 4), d))
       for n, _, _, d in stream.read(sys.stdin.buffer)[1] if n.startswith("ids.")]
want = [json.loads(line)["ids"] for line in open(sys.argv[1], encoding="utf-8")]
assert got == want, [w for g, w in zip(got, want) if g != w][:1]' "$G/tokenizers_small/$name.jsonl"
    done
}

@test "BOS and EOS follow the metadata" {
    head_of() { "$BIN/ts-dump" "$1" | grep '^bos'; }
    $GGUF vocab "$G/tokenizers_small/spm.json" m.gguf spm
    printf a | "$BIN/tokenize" -m m.gguf -o a.tsz
    [ "$(head_of a.tsz)" = 'bos: {"rule": "auto", "begin": [1], "end": [], "row": [1]}' ]
    "$BIN/ts-dump" --values file/tokenizer_config.json m.gguf |
        grep -q '"bos_token":"<s>","eos_token":"</s>"'
    [ "$("$BIN/ts-dump" --values file/generation_config.json m.gguf)" \
        = '{"bos_token_id":1,"eos_token_id":2}' ]
}

@test "a tokenizer that cannot be rebuilt is an error only where it is needed" {
    $GGUF vocab "$G/tokenizers_small/gpt2.json" m.gguf gemma4
    run --separate-stderr "$BIN/gguf-import" m.gguf -o x.tsz
    [ "$status" = 0 ]
    [[ $stderr == *"no tokenizer.json: 'm.gguf': pre-tokenizer gemma4 is not supported: "* ]]
    run -1 --separate-stderr sh -c "echo a | '$BIN/tokenize' -m m.gguf -o a.tsz"
    [[ $stderr == *"pre-tokenizer gemma4"* ]]
}

@test "refused: architectures, metadata, parts, experts, windows" {
    changed 'M["general.architecture"] = "rwkv6"' \
        "architecture rwkv6, which is not supported (supported are llama, qwen2, qwen3, nemotron, "
    changed 'del M["general.architecture"]' "no general.architecture"
    changed 'del M["llama.block_count"]' "no metadata llama.block_count"
    changed 'M["llama.attention.clamp_kqv"] = 8.0' \
        "llama.attention.clamp_kqv may change the function"
    changed 'M["llama.attn_logit_softcapping"] = 8.0' \
        "llama.attn_logit_softcapping may change the function"
    changed 'M["llama.attention.key_length"] = 8; M["llama.attention.head_count"] = 0' \
        "num_attention_heads is 0"
    changed 'M["split.count"] = 3' "one of 3 parts"
    changed 'M["llama.expert_count"] = 8' "experts"
    changed 'M["llama.rope.dimension_count"] = 6' \
        "rope.dimension_count 6 is not supported for heads of 8"
    changed 'M["llama.attention.value_length"] = 4' "8 key and 4 value channels"
    changed 'M["llama.feed_forward_length"] = [45, 45, 45, 40]' "differs between layers"
    changed 'M["llama.attention.head_count"] = 10**9' "num_attention_heads is 1000000000"
    blocks() {      # layers of different shapes: changes that are refused
        $GGUF make "$G/families/nemotron_nas" m.gguf "$1"
        refused m.gguf "$2"
    }
    blocks 'M["deci.attention.head_count_kv"] = [2, 1, 0, 0]' "layer 3 has 6 query heads and 0 KV"
    blocks 'M["deci.attention.head_count"] = [6, 3, 0, 6]' "differs between layers (6 and 3)"
    blocks 'M["deci.attention.head_count"] = [0, 0, 0, 0]' "no layer has attention"
    blocks 'M["deci.feed_forward_length"] = [256, 45, 30]' "length has no number for layer 3"
    blocks 'M["deci.block_count"] = 10**9' "block_count 1000000000 is more than the limit of 4096"
}

@test "refused: tensors that are missing, misshapen, unknown, of other types" {
    changed 'del T["blk.1.attn_k.weight"]' "no tensor blk.1.attn_k.weight"
    changed 'd, s, b = T["blk.1.ffn_up.weight"]; T["blk.1.ffn_up.weight"] = d, s[::-1], b' \
        "blk.1.ffn_up.weight has shape [36, 45]; the metadata requires [45, 36]"
    changed 'T["blk.0.attn_sinks.weight"] = T["output_norm.weight"]' \
        "blk.0.attn_sinks.weight, which family llama does not know"
    changed 'd, s, b = T["output_norm.weight"]; T["output_norm.weight"] = 10, s, b' \
        "has type Q2_K (10); supported are F32"
}

@test "refused: files that are cut short or not a GGUF file" {
    $GGUF make "$G/families/llama" m.gguf
    for n in 10 1000 3000 100000; do
        head -c $n m.gguf > cut.gguf
        refused cut.gguf "truncated"
    done
    head -c 20 m.gguf > cut.gguf
    refused cut.gguf \
        "the number of tensors is 39, more than the rest of the file can hold (truncated?)"
    run -1 --separate-stderr "$BIN/gguf-import" "$G/families/llama" -o refused.tsz
    [[ $stderr == *"is not a GGUF file; directories are converted by hf-import" ]]
}

@test "constant memory: a tensor of 246 MB under 200 MB of address space" {
    [ -z "$PARE_SANITIZED" ] || skip "the sanitizer needs more"
    python3 - <<'P'
import gguf, st
E, F, V = 1024, 1024, 60000
M = gguf.metadata({"model_type": "llama", "hidden_size": E, "intermediate_size": F,
                   "num_hidden_layers": 1, "num_attention_heads": 8, "num_key_value_heads": 8,
                   "head_dim": 128, "max_position_embeddings": 64, "rms_norm_eps": 1e-5,
                   "rope_theta": 1e4})
shapes = {"blk.0.attn_norm": [E], "blk.0.attn_q": [E, E], "blk.0.attn_k": [E, E],
          "blk.0.attn_v": [E, E], "blk.0.attn_output": [E, E], "blk.0.ffn_norm": [E],
          "blk.0.ffn_gate": [F, E], "blk.0.ffn_up": [F, E], "blk.0.ffn_down": [E, F],
          "output_norm": [E], "token_embd": [V, E]}
head = gguf.header(M, {name + ".weight": ("F32", shape, 4 * st.product(shape))
                       for name, shape in shapes.items()})
with open("large.gguf", "wb") as f:
    f.write(head)
    f.truncate(len(head) + sum(4 * st.product(s) for s in shapes.values()))
P
    (ulimit -v 200000; "$BIN/gguf-import" large.gguf --quiet > large.tsz)
    "$BIN/ts-check" large.tsz
}
