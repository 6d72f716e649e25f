# gguf-export: every family and cut read back by gguf-import, metadata, quantised files, tokenizers,
# names, refusals. Blocks of each type: tests/unit/gguf.c. llama.cpp itself: make check-gguf.
bats_require_minimum_version 1.5.0

setup() {
    BIN=${PARE_BIN:-$PWD/bin}
    ROOT=$PWD
    G=$PWD/tests/golden
    GGUF="python3 $PWD/tests/tools/gguf.py"
    export PYTHONPATH=$PWD/tests/tools:$PWD/tests/hf
    cd "$BATS_TEST_TMPDIR" || exit
}

edited() { python3 "$ROOT/tests/hf/st.py" edit "$1" "$2" "$3"; }

back() {        # back DIR FILE: the file is DIR's model
    "$BIN/gguf-import" "$2" --compress none --quiet -o gguf.tsz
    "$BIN/hf-import" "$1" --compress none -o hf.tsz
    $GGUF same gguf.tsz hf.tsz
}

refused() {     # refused MODEL WORDS: in one line, and no file is written
    run -1 --separate-stderr "$BIN/gguf-export" "$1" refused.gguf "${@:3}"
    [ "${#stderr_lines[@]}" = 1 ]
    [[ $stderr == *"$2"* ]] || { echo "$stderr"; false; }
    [ -z "$(find . -name '*refused.gguf*')" ]
}

@test "families that a file can state as they are: id, tensors and metadata" {
    local agree="llama llama31 llama_bias mistral qwen2 qwen3 gpt2 gpt_neox granite" pairs=()
    for name in $agree falcon falcon_11b falcon_40b gemma glm4 hunyuan_v1_dense seed_oss stablelm \
        stablelm2_12b; do
        "$BIN/gguf-export" "$G/families/$name" $name.gguf --quiet
        "$BIN/gguf-import" $name.gguf --compress none --quiet -o $name.gguf.tsz
        "$BIN/hf-import" "$G/families/$name" --compress none -o $name.tsz
        pairs+=($name.gguf.tsz $name.tsz)
    done
    $GGUF same "${pairs[@]}"
    pairs=()
    for name in $agree; do pairs+=("$G/families/$name" $name.gguf); done
    $GGUF agree "${pairs[@]}"
    $GGUF show stablelm2_12b.gguf general. > about
    grep -qx 'general.architecture stablelm' about
    grep -qx 'general.file_type 32' about
    grep -qx 'general.quantization_version 2' about
}

@test "cuts: head sizes other than hidden size / heads, fewer groups, all axes" {
    for name in llama/all llama/hidden_odd llama_bias/heads qwen3/all granite/all gpt2/all; do
        "$BIN/gguf-export" "$G/slice/$name" m.gguf --quiet
        back "$G/slice/$name" m.gguf
    done
}

@test "gemma: windows that are not the usual ones are listed, none at all, scores folded into q" {
    local even='
C["query_pre_attn_scalar"] = C["head_dim"]
for n, (d, s, b) in T.items():
    if len(s) == 1:
        x = struct.unpack("<%df" % s[0], b) if d == "F32" else (0,) * s[0]
        T[n] = "F32", s, struct.pack("<%df" % s[0], *(round(v * 1024) / 1024 for v in x))'
    for name in gemma2 gemma3; do
        edited "$G/families/$name" $name "$even"
        "$BIN/gguf-export" $name m.gguf
        back $name m.gguf
        $GGUF agree $name m.gguf
    done
    [ "$($GGUF show m.gguf gemma3.attention.sliding_window_p)" \
        = "gemma3.attention.sliding_window_pattern [True, True, False, True]" ]
    run --separate-stderr "$BIN/gguf-export" "$G/families/gemma2" m.gguf
    [ "$stderr" = "gguf-export: the scale of scores of 4 layers was multiplied into q" ]
    "$BIN/gguf-export" "$G/slice/gemma2/full" m.gguf --quiet
    $GGUF show m.gguf gemma2.attention.sliding | tr '\n' ' ' > windows
    [ "$(cat windows)" = "gemma2.attention.sliding_window 64 \
gemma2.attention.sliding_window_pattern [True, True] " ]
}

@test "folded scores: the logits are the model's" {
    echo "1 2 3 4 5 6 7 8 9 10 11 12 13" | "$BIN/tokenize" --ids -o ids.tsz
    for name in gemma2 gemma3; do
        "$BIN/gguf-export" "$G/families/$name" m.gguf --type f32 --quiet
        for m in "$G/families/$name" m.gguf; do
            "$BIN/dump-logits" "$m" ids.tsz --full --quiet --compress none -o "${m##*/}.tsz"
        done
        $GGUF near "$name.tsz" m.gguf.tsz 1e-5
    done
}

@test "tied heads and biases that an architecture requires are added" {
    edited "$G/families/gpt_neox_serial" neox '
C["tie_word_embeddings"] = True
del T["embed_out.weight"]'
    run --separate-stderr "$BIN/gguf-export" neox m.gguf
    [ "$stderr" = "gguf-export: 4 biases of zeros were added, which architecture gptneox requires" ]
    $GGUF show m.gguf output.weight | grep -q output.weight
    "$BIN/gguf-import" m.gguf --quiet | "$BIN/ts-dump" --head |
        grep -q '"tie_word_embeddings": true'
}

@test "norms of q and k: command-r has them from 64 layers on, phi2 never; falcon without ALiBi" {
    local deeper='
C["num_hidden_layers"] = 64
for name in [name for name in T if ".layers.0." in name]:
    for layer in range(1, C["num_hidden_layers"]):
        T[name.replace(".0.", ".%d." % layer)] = T[name]'
    edited "$G/families/command_r_plus" deep "$deeper"
    "$BIN/gguf-export" deep deep.gguf --quiet
    back deep deep.gguf
    python3 -c 'import gguf; print(gguf.read("deep.gguf")[1]["blk.63.attn_k_norm.weight"][:2])' |
        grep -qx "(0, \[2, 8\])"
    refused "$G/families/command_r_plus" \
        "only then: this model has 2 layers and such norms"
    edited deep plain 'C["use_qk_norm"] = False
for name in [name for name in T if "_norm." in name]:
    T.pop(name)'
    refused plain "this model has 64 layers and no such norms"
    refused "$G/families/phi_norms" "architecture phi2 has no norms of q and k"
    refused "$G/families/falcon_rw" "architecture falcon has no bias of o_proj"
    edited "$G/families/falcon_rw" unbiased 'C["bias"] = False
for name in list(T):
    if name.endswith("bias") and "ln_f" not in name and "norm" not in name:
        T.pop(name)'
    refused unbiased "architecture falcon has no ALiBi"
}

@test "mixtures of experts: one tensor for all experts of a layer" {
    for name in mixtral granitemoe; do
        "$BIN/gguf-export" "$G/families/$name" m.gguf --quiet
        back "$G/families/$name" m.gguf
        $GGUF agree "$G/families/$name" m.gguf
    done
    for name in qwen2_moe:0,2-3 qwen3_moe:0; do
        "$BIN/slice-model" "$G/families/${name%:*}" --quiet --drop-layers ${name#*:} |
            "$BIN/hf-export" --quiet - "${name%:*}"
        "$BIN/gguf-export" "${name%:*}" m.gguf --quiet
        back "${name%:*}" m.gguf
        $GGUF agree "${name%:*}" m.gguf
    done
    refused "$G/families/olmoe" "requires as many KV heads as query heads, not 2 for 6"
    refused "$G/families/qwen3_moe" "layer 1 differs from layer 0 in its intermediate_size"
    edited qwen3_moe other 'C["norm_topk_prob"] = False'
    refused other "cannot express this model's norm_topk_prob"
    # neurons of experts are the columns of their last matrices
    run --separate-stderr "$BIN/gguf-export" "$G/families/mixtral" m.gguf --type q8_0
    [[ $stderr == *"rows of 11 are F16, since Q8_0 takes multiples of 32"* ]]
    [[ $stderr == *"(--moe-intermediate-size 32 would suit)"* ]] || { echo "$stderr"; false; }
}

@test "another architecture that computes the same: phi3 and qwen2 as llama, mixed layers as deci" {
    echo "1 2 3 4 5 6 7 8 9 10 11 12 13" | "$BIN/tokenize" --ids -o ids.tsz
    "$BIN/hf-import" "$G/families/qwen2" -o qwen2.tsz
    "$BIN/hf-import" "$G/families/llama" -o llama.tsz
    for name in qwen2 llama; do
        "$BIN/rank" --magnitude $name.tsz -o $name.rank
    done
    "$BIN/slice-model" qwen2.tsz --rank qwen2.rank --hidden-size 20 -o qwen2-small.tsz
    "$BIN/slice-model" llama.tsz --rank llama.rank --intermediate-size 0:16,1:24,2-3:45 \
        -o llama-small.tsz
    for pair in qwen2-small:llama llama-small:deci; do
        m=${pair%:*}
        run --separate-stderr "$BIN/gguf-export" $m.tsz m.gguf --type f32
        [[ $stderr == *"written as architecture ${pair#*:}, which computes the same as "* ]]
        "$BIN/dump-logits" $m.tsz ids.tsz --full --quiet --compress none -o a.tsz
        "$BIN/dump-logits" m.gguf ids.tsz --full --quiet --compress none -o b.tsz
        $GGUF near a.tsz b.tsz 1e-5
    done
    [ "$($GGUF show m.gguf deci.feed_forward)" = "deci.feed_forward_length [16, 24, 45, 45]" ]
    "$BIN/gguf-export" "$G/families/phi3" m.gguf --quiet
    back "$G/families/phi3" m.gguf
}

@test "quantised: types, values near the model's, packed tensors keep their bytes" {
    $GGUF tiny tiny
    "$BIN/hf-import" tiny --compress none -o hf.tsz
    for pair in f32:0 f16:0 bf16:0 q8_0:0.004 q5_0:0.063 q5_1:0.033 q4_0:0.126 q4_1:0.067; do
        type=${pair%:*}
        "$BIN/gguf-export" tiny m.gguf --type $type --pure
        "$BIN/gguf-import" m.gguf --compress none --quiet -o gguf.tsz
        $GGUF near hf.tsz gguf.tsz "${pair#*:}"
        $GGUF show m.gguf blk.1.ffn_ > shown
        grep -qx "blk.1.ffn_down.weight ${type^^}" shown
        grep -qx "blk.1.ffn_norm.weight F32" shown
    done
    $GGUF make tiny q8.gguf Q8_0
    "$BIN/gguf-export" q8.gguf again.gguf
    for m in q8 again; do "$BIN/gguf-import" $m.gguf --compress none -o $m.tsz; done
    $GGUF same q8.tsz again.tsz
    [ "$("$BIN/ts-dump" again.tsz | grep -c ' q8_0 ')" = 15 ]
}

types() {       # types TENSOR: of all layers
    $GGUF show m.gguf blk. | sed -n "s/.*\.$1\.weight //p" | tr '\n' ' '
}

@test "mixtures: which matrices get more bits; rows that are no whole blocks" {
    python3 "$ROOT/tests/hf/st.py" sparse wide '
C.update(model_type="llama", hidden_size=256, intermediate_size=384, num_hidden_layers=8,
    num_attention_heads=4, num_key_value_heads=2, head_dim=64, vocab_size=40, rms_norm_eps=1e-5,
    max_position_embeddings=64, rope_theta=10000.0, tie_word_embeddings=True)
T["model.embed_tokens.weight"], T["model.norm.weight"] = ("F32", [40, 256]), ("F32", [256])
for l in range(8):
    for name, *shape in (("input_layernorm", 256), ("post_attention_layernorm", 256),
            ("self_attn.q_proj", 256, 256), ("self_attn.k_proj", 128, 256),
            ("self_attn.v_proj", 128, 256), ("self_attn.o_proj", 256, 256),
            ("mlp.gate_proj", 384, 256), ("mlp.up_proj", 384, 256), ("mlp.down_proj", 256, 384)):
        T["model.layers.%d.%s.weight" % (l, name)] = "F32", shape'
    run --separate-stderr "$BIN/gguf-export" wide m.gguf --type q4_k_m
    [ "$(types attn_v)" = "Q6_K Q4_K Q4_K Q6_K Q4_K Q4_K Q6_K Q6_K " ]
    [ "$(types ffn_down)" = "Q8_0 Q5_0 Q5_0 Q8_0 Q5_0 Q5_0 Q8_0 Q8_0 " ]
    [ "$(types attn_q)" = "Q4_K Q4_K Q4_K Q4_K Q4_K Q4_K Q4_K Q4_K " ]
    [ "$($GGUF show m.gguf token_embd)" = "token_embd.weight Q6_K" ]
    [ "$($GGUF show m.gguf general.file_type)" = "general.file_type 15" ]
    local why="tensors with rows of 384 are" suits="takes multiples of 256"
    suits+=" (--intermediate-size 512 would suit)"
    [ "$stderr" = "gguf-export: 4 $why Q8_0, since Q6_K $suits; 4 $why Q5_0, since Q4_K $suits" ]
    "$BIN/gguf-export" wide m.gguf --type q4_k_s --quiet
    [ "$(types attn_v)" = "Q5_K Q5_K Q5_K Q5_K Q4_K Q4_K Q4_K Q4_K " ]
    "$BIN/gguf-export" wide m.gguf --type q5_k --quiet
    [ "$(types attn_v)" = "Q6_K Q5_K Q5_K Q6_K Q5_K Q5_K Q6_K Q6_K " ]
    "$BIN/gguf-export" wide m.gguf --type q4_0 --quiet
    [ "$(types ffn_down)" = "Q4_0 Q4_0 Q4_0 Q4_0 Q4_0 Q4_0 Q4_0 Q4_0 " ]
    [ "$($GGUF show m.gguf token_embd)" = "token_embd.weight Q6_K" ]
    "$BIN/gguf-export" wide m.gguf --type q4_0 --pure
    [ "$($GGUF show m.gguf token_embd)" = "token_embd.weight Q4_0" ]
    run --separate-stderr "$BIN/gguf-export" "$G/families/llama" m.gguf --type q8_0
    [[ $stderr == *" rows of 36 are F16, since Q8_0 takes multiples of 32 (--hidden-size 32 "* ]]
    # heads that the KV heads can share
    python3 "$ROOT/tests/hf/st.py" sparse three '
C.update(model_type="llama", hidden_size=32, intermediate_size=32, num_hidden_layers=1,
    num_attention_heads=3, num_key_value_heads=3, head_dim=16, vocab_size=40, rms_norm_eps=1e-5,
    max_position_embeddings=64, rope_theta=10000.0, tie_word_embeddings=True)
T["model.embed_tokens.weight"], T["model.norm.weight"] = ("F32", [40, 32]), ("F32", [32])
for name, *shape in (("input_layernorm", 32), ("post_attention_layernorm", 32),
        ("self_attn.q_proj", 48, 32), ("self_attn.k_proj", 48, 32),
        ("self_attn.v_proj", 48, 32), ("self_attn.o_proj", 32, 48),
        ("mlp.gate_proj", 32, 32), ("mlp.up_proj", 32, 32), ("mlp.down_proj", 32, 32)):
    T["model.layers.0.%s.weight" % name] = "F32", shape'
    run --separate-stderr "$BIN/gguf-export" three m.gguf --type q8_0
    [[ $stderr == *"rows of 48 are F16"*"(--num-attention-heads 6 would suit)" ]]
}

@test "tokenizers: vocabulary, merges and scores come back with the same ids" {
    for pair in gpt2:gpt-2 smollm:smollm qwen2:qwen2 llama3:llama-bpe spm:default; do
        name=${pair%:*}
        python3 "$ROOT/tests/hf/st.py" edit "$G/families/llama" $name "
import json
t = json.load(open('$G/tokenizers_small/$name.json'))
ids = [*t['model']['vocab'].values(), *(a['id'] for a in t['added_tokens'])]
C['vocab_size'] = n = 2 + max(ids)
for k in 'model.embed_tokens.weight', 'lm_head.weight':
    d, s, b = T[k]
    T[k] = d, [n, s[1]], (b * (n // s[0] + 1))[:len(b) // s[0] * n]"
        cp "$G/tokenizers_small/$name.json" $name/tokenizer.json
        "$BIN/gguf-export" $name m.gguf --quiet
        [ "$($GGUF show m.gguf tokenizer.ggml.pre)" = "tokenizer.ggml.pre ${pair#*:}" ]
        "$BIN/tokenize" -m m.gguf --bos no --quiet "$G/tokenizers_small/$name.jsonl" | python3 -c '
import json, stream, struct, sys
got = [list(struct.unpack("<%dI" % (len(d) // 4), d))
       for n, _, _, d in stream.read(sys.stdin.buffer)[1] if n.startswith("ids.")]
want = [json.loads(line)["ids"] for line in open(sys.argv[1], encoding="utf-8")]
assert got == want, [w for g, w in zip(got, want) if g != w][:1]' "$G/tokenizers_small/$name.jsonl"
    done
    changed() {     # changed KEY VALUE: llama3, with that member in its tokenizer.json
        python3 -c 'import json, sys
t = json.load(open("llama3/tokenizer.json"))
t[sys.argv[1]] = json.loads(sys.argv[2])
json.dump(t, open("changed/tokenizer.json", "w"))' "$@"
    }
    cp -r llama3 changed
    changed pre_tokenizer '{"type": "Sequence", "pretokenizers": [{"type": "Split", "pattern":
        {"Regex": "x+"}, "behavior": "Isolated", "invert": false},
        {"type": "ByteLevel", "add_prefix_space": false, "use_regex": false}]}'
    refused changed "llama.cpp has no name for the way in which this tokenizer.json splits"
    for normalizer in '{"type": "Lowercase"}' \
        '{"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": "Lowercase"}]}'; do
        changed normalizer "$normalizer"
        refused changed "the normalizer Lowercase, which llama.cpp does not have for such a BPE"
    done
    changed normalizer '{"type": "NFKC"}'
    refused changed "the normalizer NFKC"
    changed normalizer '{"type": "Sequence", "normalizers": [{"type": "NFC"}]}'
    "$BIN/gguf-export" --quiet changed changed.gguf
}

@test "the file's name in a directory, by convention; the name and what it was made from" {
    mkdir out
    cp -r "$G/families/llama" Tiny-1B-Chat-v1.5
    run --separate-stderr "$BIN/gguf-export" Tiny-1B-Chat-v1.5 out/ --type f16
    [ "$stderr" = "gguf-export: wrote out/Tiny-44K-Chat-v1.5-F16.gguf" ]
    $GGUF show out/Tiny-44K-Chat-v1.5-F16.gguf general. > about
    grep -qx 'general.name Tiny 1B Chat v1.5' about
    grep -qx 'general.basename Tiny' about
    grep -qx 'general.finetune Chat' about
    "$BIN/hf-import" Tiny-1B-Chat-v1.5 -o m.tsz
    "$BIN/rank" --magnitude m.tsz -o m.rank
    "$BIN/slice-model" m.tsz --rank m.rank --intermediate-size 16 |
        "$BIN/gguf-export" - out --name small
    $GGUF show out/small-* > about
    grep -qx 'general.base_model.0.name Tiny 1B Chat v1.5' about
    grep '^pare.history' about | grep -q '"intermediate-size": *16'
    cd Tiny-1B-Chat-v1.5
    "$BIN/gguf-export" . ../out/ --quiet
    [ -e ../out/Tiny-44K-Chat-v1.5-F32.gguf ]
    "$BIN/slice-model" . --drop-layers 0 | "$BIN/gguf-export" - ../cut.gguf --quiet
    $GGUF show ../cut.gguf general. > ../about
    grep -qx 'general.name Model' ../about
    run ! grep -q general.base_model ../about
}

@test "a model from the Hub's cache has its name there; the base is the student, not its text" {
    hub=hub/models--house--Big-1.5/snapshots/0123
    mkdir -p "$hub"
    cp "$G/families/llama"/* "$hub"
    "$BIN/gguf-export" --quiet "$hub" same.gguf
    $GGUF show same.gguf general. > about
    grep -qx 'general.name Big 1.5' about
    run ! grep -q general.base_model about
    "$BIN/slice-model" "$hub" --drop-layers 0 -o cut.tsz
    "$BIN/gguf-export" --quiet cut.tsz cut.gguf
    $GGUF show cut.gguf general. > about
    grep -qx 'general.name Cut' about
    grep -qx 'general.base_model.0.name Big 1.5' about
    grep -qx 'general.base_model.0.organization House' about
    grep -qx 'general.base_model.0.repo_url https://huggingface.co/house/Big-1.5' about
    cp -r "$hub" student
    echo 1 2 3 4 5 6 7 8 > text
    "$BIN/tokenize" --quiet --ids text -o tokens.tsz
    "$BIN/kd-train" student --teacher "$hub" --data tokens.tsz --max-steps 1 --quiet \
        -o distilled.tsz
    "$BIN/gguf-export" --quiet distilled.tsz distilled.gguf
    $GGUF show distilled.gguf general. > about
    grep -qx 'general.base_model.0.name Student' about
    run ! grep -q repo_url about
}

@test "refused: shapes and values without a form, wrong usage; a full disk leaves nothing" {
    refused "$G/families/nemotron" "hidden_size 36 does not suit 6 heads of 8, 48 would"
    refused "$G/families/smollm3" "architecture smollm3 cannot express the rope of layer 2"
    refused "$G/families/nemotron_nas" \
        "ignores the attention of a layer without an MLP, such as layer 3"
    refused "$G/families/ernie4_5" "architecture ernie4_5 has no bias of up_proj"
    refused "$G/families/cohere" "hidden_size 20 does not suit 4 heads of 8, 32 would"
    edited "$G/families/gemma" untied 'C["tie_word_embeddings"] = False
T["lm_head.weight"] = T["model.embed_tokens.weight"]'
    refused untied "architecture gemma has no head other than the embedding"
    edited "$G/families/qwen3" scaled 'C["rope_parameters"].update(rope_type="llama3", factor=8.0,
    low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=16)'
    refused scaled "architecture qwen3 has no rope scaling of type llama3"
    edited "$G/families/llama" large '
d, s, b = T["lm_head.weight"]
T["lm_head.weight"] = "F32", s, struct.pack("<f", 7e4) * (s[0] * s[1])'
    refused large "lm_head.weight has the value 70000, which type F16 cannot hold" --type f16
    run -2 "$BIN/gguf-export" "$G/families/llama" x.gguf --type q3_k
    [[ $output == *"--type must be keep, or one of f32, f16, bf16, q8_0, "*", not \"q3_k\""* ]]
    run -2 "$BIN/gguf-export" "$G/families/llama" -
    run -1 "$BIN/gguf-export" "$G/families/llama" /dev/null
    [[ $output == *"it must be a file"* ]]
    run -1 bash -c "ulimit -f 8; trap '' XFSZ; '$BIN/gguf-export' '$G/families/llama' x.gguf"
    [ -z "$(find . -name '*x.gguf*')" ]
}
