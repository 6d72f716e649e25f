# hf-import and hf-export: round trips of every family, contents of older files, twins, refusals.
bats_require_minimum_version 1.5.0

setup() {
    BIN=${PARE_BIN:-$PWD/bin}
    G=$PWD/tests/golden
    TEACHER=$PWD/pipelines/teacher
    HF=$PWD/tests/hf
    ST="python3 $HF/st.py"
    cd "$BATS_TEST_TMPDIR" || exit
}

import() { "$BIN/hf-import" "$@"; }
export_() { "$BIN/hf-export" "$@"; }
id() { "$BIN/hf-import" "$1" | $ST id; }

refused() {     # refused DIR WORDS: hf-import says so in one line, quickly, and writes no file
    run -1 --separate-stderr import "$1" -o refused.tsz
    [ "${#stderr_lines[@]}" = 1 ]
    [[ $stderr == *"$2"* ]] || { echo "$stderr"; false; }
    [ ! -e refused.tsz ]
}

@test "every family comes back byte for byte, through a stream in a file" {
    for dir in "$G"/families/*; do
        name=$(basename "$dir")
        import "$dir" -o "$name.tsz"
        export_ "$name.tsz" "$name"
        cmp "$dir/generation_config.json" "$name/generation_config.json"
    done
    PYTHONPATH=$HF python3 - "$G"/families/* <<'P'
import json, os, st, sys
for folder in sys.argv[1:]:
    name = os.path.basename(folder)
    assert not (wrong := st.same(folder, name)), (name, wrong)
    said = lambda name: {"__float__": name}  # as transformers 5 writes what JSON lacks
    a, b = (json.load(open(d + "/config.json"), parse_constant=said) for d in (folder, name))
    free = {"max_window_layers"} | ({"num_kv_heads"} if a.get("multi_query") else set())  # not read
    # where config.json says "auto", the number is written
    wrong = [k for k in a if k not in free and (k not in b or a[k] not in (b[k], "auto"))]
    assert not wrong, (name, wrong)
P
}

@test "cut shapes come back, through a pipe" {
    for dir in "$G"/slice/*/all "$G/slice/gpt2/hidden_heads"; do
        rm -rf back
        import "$dir" | export_ - back
        $ST same "$dir" back
    done
}

@test "shards: written by size, read by index" {
    export_ "$G/families/llama" shards --max-shard-size 20KB
    [ -e shards/model.safetensors.index.json ]
    [ ! -e shards/model.safetensors ]
    [ "$(ls shards/*.safetensors | wc -l)" -gt 3 ]
    $ST same "$G/families/llama" shards
    [ "$(id shards)" = "$(id "$G/families/llama")" ]
    export_ shards one --max-shard-size 5GB
    [ -e one/model.safetensors ]
    [ ! -e one/model.safetensors.index.json ]
    $ST same shards one
    run -2 export_ shards two --max-shard-size 5XB
}

@test "the id depends on function and values, not on path, format or dtype" {
    first=$(id "$G/families/llama31")
    cp -r "$G/families/llama31" moved
    [ "$(id moved)" = "$first" ]
    export_ moved wide --dtype f32
    [ "$(id wide)" = "$first" ]
    $ST edit moved value '
d, s, b = T["model.layers.1.mlp.up_proj.weight"]
T["model.layers.1.mlp.up_proj.weight"] = d, s, b"\1" + b[1:]'
    [ "$(id value)" != "$first" ]
    $ST edit moved theta 'C["rope_theta"] = 20000.0'
    [ "$(id theta)" != "$first" ]
    $ST edit moved spelling '
C["_name_or_path"] = "x"
C["transformers_version"] = "5.0"
C["dtype"] = C.pop("torch_dtype")
C.pop("mlp_bias")'
    [ "$(id spelling)" = "$first" ]
    $ST edit "$G/families/gpt_neox" serial 'C["use_parallel_residual"] = False'
    [ "$(id serial)" != "$(id "$G/families/gpt_neox")" ]
    $ST edit "$G/families/gemma2" capped 'C["attn_logit_softcapping"] = 4.5'
    [ "$(id capped)" != "$(id "$G/families/gemma2")" ]
}

@test "--dtype rounds to nearest even, says so and writes it into the config" {
    run -0 --separate-stderr export_ "$G/families/llama" half --dtype bf16
    [[ $stderr == *"rounded from f32 to bf16"* ]]
    $ST rounded "$G/families/llama" half
    grep -q '"torch_dtype": "bfloat16"' half/config.json
    export_ half wide --dtype f32
    export_ wide again --dtype bf16 --quiet
    $ST same half again
    export_ "$G/families/qwen3" v5 --dtype f32
    grep -q '"dtype": "float32"' v5/config.json
    run ! grep -q torch_dtype v5/config.json
    $ST edit "$G/families/llama" large '
d, s, b = T["model.norm.weight"]
T["model.norm.weight"] = d, s, struct.pack("<f", 1e5) + b[4:]'
    run -1 export_ large f16 --dtype f16
    [[ $output == *norm.weight*100000* ]]
    [ ! -e f16 ]
}

@test "a llama whose heads do not divide its width becomes mistral, or smollm3 with biases" {
    $ST edit "$G/slice/llama/hidden_odd" odd '
C["model_type"] = "llama"
C["architectures"] = ["LlamaForCausalLM"]
C.pop("sliding_window")'
    run -0 --separate-stderr export_ odd twin
    [[ $stderr == *mistral* ]]
    $ST same odd twin
    python3 - "$G/slice/llama/hidden_odd/config.json" twin/config.json <<'P'
import json, sys
a, b = (json.load(open(f)) for f in sys.argv[1:])
assert a == b, (a, b)
P
    [ "$(id odd)" = "$(id twin)" ]
    $ST edit "$G/families/llama_bias" biased '
C["hidden_size"] = 31
for n, (d, s, b) in T.items():
    r = [b[i:i + s[-1] * 4] + bytes(4) * (s[-1] == 30) for i in range(0, len(b), s[-1] * 4)]
    row = bytes(31 * 4 if len(s) == 2 and s[-1] == 30 else 4 * s[-1])
    T[n] = d, [31 if x == 30 else x for x in s], b"".join(r) + row * (len(s) == 2 and s[0] == 30)
'
    run -0 --separate-stderr export_ biased twin2
    [[ $stderr == *smollm3* ]]
    $ST same biased twin2
    python3 - <<'P'
import json
c = json.load(open("twin2/config.json"))
assert c["model_type"] == "smollm3" and c["architectures"] == ["SmolLM3ForCausalLM"], c
assert c["no_rope_layers"] == [1, 1, 1] and c["rope_parameters"]["rope_theta"] == 500.0, c
assert c["attention_bias"] and c["mlp_bias"] and c["tie_word_embeddings"] is False, c
# by default the class has one beyond this vocabulary, which transformers refuses
assert c["pad_token_id"] is None and (c["bos_token_id"], c["eos_token_id"]) == (1, 2), c
P
}

@test "layers of different shapes become nemotron-nas, which comes back as it is" {
    "$BIN/slice-model" "$TEACHER" --drop-attention 2 --drop-mlp 4 -o half.tsz 2> note
    grep -q "hf-export: config.json for model_type llama has one shape for all layers: written as \
model_type nemotron-nas" note
    grep -q "llama.cpp ignores the attention of layer 4, which has no MLP" note
    run -0 --separate-stderr export_ half.tsz nas
    [[ $stderr == *"written as model_type nemotron-nas"* ]]
    python3 - <<'P'
import json
c = json.load(open("nas/config.json"))
assert c["model_type"] == "nemotron-nas" and c["architectures"] == ["DeciLMForCausalLM"], c
blocks = c["block_configs"]
whole = {"attention": {"n_heads_in_group": 2, "no_op": False, "replace_with_linear": False},
         "ffn": {"ffn_mult": 4.0, "no_op": False, "replace_with_linear": False}}
assert [blocks[i] for i in (0, 1, 3, 5)] == [whole] * 4, blocks
none = {"no_op": True, "replace_with_linear": False}
assert blocks[2] == whole | {"attention": none | {"n_heads_in_group": None}}, blocks[2]
assert blocks[4] == whole | {"ffn": none | {"ffn_mult": None}}, blocks[4]
assert c["intermediate_size"] is None and c["num_key_value_heads"] is None, c
assert c["auto_map"]["AutoConfig"].endswith("--configuration_decilm.DeciLMConfig"), c
P
    run -0 --separate-stderr export_ nas again
    [[ $stderr != *"written as"* ]]
    $ST same nas again
    cmp nas/config.json again/config.json
    import nas -o nas.tsz
    printf '%s\n' "In the beginning" | "$BIN/tokenize" --model "$TEACHER" -o text.tsz --quiet
    loss() { "$BIN/eval-ppl" --quiet "$1" text.tsz | grep -o '"nll":[^,}]*'; }
    [ "$(loss half.tsz)" = "$(loss nas.tsz)" ]
}

@test "phi3 with longrope and a cut width is written as mistral with split matrices" {
    $ST edit "$G/slice/phi3/hidden" long '
C["rope_scaling"] = {"type": "longrope", "short_factor": [1.0, 1.1, 1.2, 1.3],
                     "long_factor": [2.0, 3.0, 4.0, 5.0]}
C["original_max_position_embeddings"] = 32
'
    run -0 --separate-stderr export_ long twin
    [[ $stderr == *mistral* ]]
    python3 - <<'P'
import json
c = json.load(open("twin/config.json"))
assert c["model_type"] == "mistral" and c["rope_scaling"]["rope_type"] == "longrope", c
assert c["original_max_position_embeddings"] == 32, c
assert c["sliding_window"] is None and c["head_dim"] == 8 and c["rms_norm_eps"] == 1e-5, c
P
    [ "$(id long)" = "$(id twin)" ]
}

@test "phi with norms of q and k: hidden size and heads that its class cannot combine are refused" {
    "$BIN/rank" --quiet --magnitude "$G/families/phi_norms" -o rank
    "$BIN/slice-model" --quiet "$G/families/phi_norms" --rank rank --hidden-size 13 -o cut.tsz
    run -1 --separate-stderr export_ cut.tsz out
    [[ $stderr == *"makes norms of q and k hidden_size / num_attention_heads wide"* ]]
    [ ! -e out ]
}

@test "older files: no base prefix, rotary tables, masks, another name for the head" {
    $ST edit "$G/families/llama" bare '
for n in list(T):
    T[n.removeprefix("model.")] = T.pop(n)
for l in range(4):
    T[f"layers.{l}.self_attn.rotary_emb.inv_freq"] = ("F32", [4], bytes(16))
'
    export_ bare back
    $ST same "$G/families/llama" back
    $ST edit "$G/families/gpt2" masked '
for n in list(T):
    T[n.removeprefix("transformer.")] = T.pop(n)
for l in range(3):
    T[f"h.{l}.attn.bias"] = ("BOOL", [1, 1, 64, 64], bytes(4096))
    T[f"h.{l}.attn.masked_bias"] = ("F32", [], bytes(4))
'
    export_ masked back2
    $ST same "$G/families/gpt2" back2
    $ST edit "$G/families/gpt_neox" neox '
T["lm_head.weight"] = T.pop("embed_out.weight")
for l in range(3):
    T[f"gpt_neox.layers.{l}.attention.bias"] = ("BOOL", [1, 1, 64, 64], bytes(4096))
    T[f"gpt_neox.layers.{l}.attention.masked_bias"] = ("F32", [], bytes(4))
    T[f"gpt_neox.layers.{l}.attention.rotary_emb.inv_freq"] = ("F32", [3], bytes(12))
'
    export_ neox back3
    $ST same "$G/families/gpt_neox" back3
}

@test "a head beside tied embeddings: ignored if equal, untied if not, alone the embedding" {
    $ST edit "$G/families/llama31" equal 'T["lm_head.weight"] = T["model.embed_tokens.weight"]'
    export_ equal back
    $ST same "$G/families/llama31" back
    $ST edit "$G/families/llama31" different '
d, s, b = T["model.embed_tokens.weight"]
T["lm_head.weight"] = d, s, b[:-1] + b"\1"'
    export_ different untied
    $ST same different untied
    grep -q '"tie_word_embeddings": false' untied/config.json
    $ST edit "$G/families/llama31" alone 'T["lm_head.weight"] = T.pop("model.embed_tokens.weight")'
    export_ alone back3
    $ST same "$G/families/llama31" back3
}

@test "tokenizer files and templates are carried along, stray files are not" {
    cp -r "$G/families/llama" m
    printf '{"version": "1.0"}' > m/tokenizer.json
    printf 'x{{ y }}\n' > m/chat_template.jinja
    : > m/merges.txt
    echo secret > m/notes
    import m | export_ - back
    cmp m/tokenizer.json back/tokenizer.json
    cmp m/chat_template.jinja back/chat_template.jinja
    [ -e back/merges.txt ]
    [ ! -s back/merges.txt ]
    [ ! -e back/notes ]
}

@test "other files of a stream, and code that its config names, are not written" {
    $BIN/hf-import "$G/families/llama" --compress none -o a.tsz
    PYTHONPATH=$G/../tools python3 - <<'PY'
import stream
head, records = stream.read(open("a.tsz", "rb"))
head["config"]["auto_map"] = {"AutoModelForCausalLM": "evil.X"}
for name in "evil.py", "-rf", "x\x1b[31m\ny":
    head["files"].append({"name": name, "bytes": 1})
    records.insert(len(head["files"]) - 1, ("file/" + name, "u8", [1], b"x"))
stream.write(open("b.tsz", "wb"), head, records)
PY
    run "$BIN/hf-export" b.tsz out
    [ "$status" = 0 ]
    [[ $output == *"left out auto_map"*"evil.py"* ]]
    [ "$(ls -A out | LC_ALL=C sort | xargs)" \
        = "README.md config.json generation_config.json history.json model.safetensors" ]
    run ! grep auto_map out/config.json
}

@test "refused: tensors that are missing, unexpected, misshapen or not floating point" {
    llama=$G/families/llama
    $ST edit $llama a 'T.pop("model.layers.2.mlp.up_proj.weight")'
    refused a "layers.2.mlp.up_proj.weight"
    $ST edit $llama b 'T["model.layers.0.self_attn.q_proj.bias"] = ("F32", [48], bytes(192))'
    refused b "layers.0.self_attn.q_proj.bias"
    $ST edit $llama c 'd, s, b = T["model.norm.weight"]; T["model.norm.weight"] = d, [35], b[4:]'
    refused c "[35]"
    $ST edit $llama d 'd, s, b = T["model.norm.weight"]; T["model.norm.weight"] = "I32", s, b'
    refused d "i32"
    $ST edit $llama e 'C["intermediate_size"] = 44'
    refused e "[45, 36]"
    $ST edit $llama f 'C["num_hidden_layers"] = 5'
    refused f "layers.4."
    $ST edit $llama g 'C["num_hidden_layers"] = 3'
    refused g "layers.3."
    $ST edit $llama h 'T.pop("lm_head.weight")'
    refused h "lm_head.weight"
    $ST edit "$G/families/phi3" i 'T.pop("model.layers.0.self_attn.qkv_proj.weight")'
    refused i "qkv_proj"
}

@test "refused: directories without a model" {
    mkdir empty
    refused empty "config.json"
    cp -r "$G/families/llama" bin
    rm bin/model.safetensors
    : > bin/pytorch_model.bin
    refused bin "pytorch_model.bin"
    cp -r "$G/families/llama" none
    rm none/model.safetensors
    refused none "no weights"
    cp -r "$G/families/llama" json
    echo '{"model_type": "llama",' > json/config.json
    refused json "not valid JSON"
    cp -r "$G/families/llama" array
    echo '[]' > array/config.json
    refused array "not a JSON object"
    cp -r "$G/families/llama" deep
    python3 -c 'print("[" * 100000)' > deep/config.json
    refused deep "deeper"
    cp -r "$G/families/llama" other
    echo '{"model_type": "mamba"}' > other/config.json
    refused other "mamba"
    refused nowhere "No such file"
    refused "$G/families/llama/config.json" "give the directory that it belongs to"
    run -1 export_ "$G/families/llama/config.json" out
    [[ $output == *"give the directory that it belongs to"* ]]
}

@test "refused: hostile and truncated safetensors" {
    llama=$G/families/llama
    patch() {   # patch NAME PYTHON: the file's bytes as B (header text as H, data as D)
        cp -r "$llama" "$1"
        python3 - "$1/model.safetensors" "$2" <<'P'
import json, struct, sys
path, code = sys.argv[1:]
B = open(path, "rb").read()
n, = struct.unpack("<Q", B[:8])
v = {"B": B, "H": B[8:8 + n].decode(), "D": B[8 + n:], "json": json, "struct": struct}
v["J"] = json.loads(v["H"])
v["join"] = lambda head, data: struct.pack("<Q", len(head.encode())) + head.encode() + data
exec(code, v)
open(path, "wb").write(v["B"])
P
    }
    patch cut 'B = B[:-1]'
    refused cut "truncated"
    patch long 'B = B + b"x"'
    refused long "after its last tensor"
    patch tiny 'B = B[:7]'
    refused tiny "too short"
    patch head 'B = B[:100]'
    refused head "truncated"
    patch huge 'B = struct.pack("<Q", 1 << 62) + B[8:]'
    refused huge "header claims"
    patch text 'B = join(H[:-1], D)'
    refused text "not valid JSON"
    patch list 'B = join("[]", D)'
    refused list "not a JSON object"
    patch twice 'B = join(H[:-1] + "," + H[1:], D)'
    refused twice "duplicate"
    patch deep 'B = join("[" * 100000, D)'
    refused deep "deeper"
    patch many 'B = join("[" + "1," * 5000000 + "1]", b"")'
    refused many "more than"
    patch over 'J["model.norm.weight"]["data_offsets"] = [0, 144]; B = join(json.dumps(J), D)'
    refused over "overlaps"
    patch past '
J["model.norm.weight"]["data_offsets"] = [len(D), len(D) + 144]
B = join(json.dumps(J), D)'
    refused past "outside"
    patch neg 'J["model.norm.weight"]["data_offsets"] = [-144, 0]; B = join(json.dumps(J), D)'
    refused neg "outside"
    patch back 'J["model.norm.weight"]["data_offsets"] = [144, 0]; B = join(json.dumps(J), D)'
    refused back "outside"
    patch size 'J["model.norm.weight"]["shape"] = [1 << 40, 1 << 40]; B = join(json.dumps(J), D)'
    refused size "do not match"
    patch less 'J["model.norm.weight"]["shape"] = [-36]; B = join(json.dumps(J), D)'
    refused less "not a valid size"
    patch big 'J["model.norm.weight"]["shape"] = [1 << 70]; B = join(json.dumps(J), D)'
    refused big "not valid JSON"
    patch dims 'J["model.norm.weight"]["shape"] = [1] * 6 + [36]; B = join(json.dumps(J), D)'
    refused dims "dimensions"
    patch f8 'J["model.norm.weight"]["dtype"] = "F8_E4M3"; B = join(json.dumps(J), D)'
    refused f8 "F8_E4M3"
    patch name 'J["a\nb"] = J.pop("model.norm.weight"); B = join(json.dumps(J), D)'
    refused name "control"
    patch none 'J["model.norm.weight"] = 3; B = join(json.dumps(J), D)'
    refused none "dtype"
}

@test "refused: false indexes" {
    sharded=$G/families/llama31
    index() { rm -rf "$1"; cp -r "$sharded" "$1"; sed -i "$2" "$1/model.safetensors.index.json"; }
    index a 's/model-00003-of/model-00009-of/';             refused a "model-00009-of"
    index b 's#"model-00003-of#"../model-00003-of#';        refused b "in the same directory"
    index c 's/"model.norm.weight": "model-00003/"model.norm.weight": "model-00001/'
    refused c "model.norm.weight"
    index d 's/weight_map/weight_mop/';                     refused d "weight_map"
    index e 's/"model.norm.weight"/"model.nope.weight"/';   refused e "model.nope.weight"
    cp -r "$sharded" f
    cp f/model-00001-of-00003.safetensors f/model-00002-of-00003.safetensors
    refused f "but it is not"
}

@test "the index decides between two copies of a tensor" {
    cp -r "$G/families/llama31" m
    python3 - m <<'P'
import json, struct, sys
index = sys.argv[1] + "/model.safetensors.index.json"
I = json.load(open(index))
# the first file is copied with other values; the index takes one tensor from the copy, and that
# one alone has the values that it had
name = "model.layers.0.input_layernorm.weight"
first = I["weight_map"][name]
data = bytearray(open(sys.argv[1] + "/" + first, "rb").read())
n, = struct.unpack("<Q", data[:8])
begin, end = (8 + n + x for x in json.loads(data[8:8 + n])[name]["data_offsets"])
copy = data[:8 + n] + bytes(b ^ 1 for b in data[8 + n:])
copy[begin:end] = data[begin:end]
data[begin:end] = bytes(b ^ 1 for b in data[begin:end])
open(sys.argv[1] + "/" + first, "wb").write(data)
open(sys.argv[1] + "/overlay.safetensors", "wb").write(copy)
I["weight_map"][name] = "overlay.safetensors"
json.dump(I, open(index, "w"))
P
    export_ m out --max-shard-size 0
    $ST same "$G/families/llama31" out
}

@test "keys that the class does not read are noted; --ignore-key reads without those in the way" {
    llama=$G/families/llama
    $ST edit $llama a 'C["no_such_key"] = 1; C["also"] = "x"'
    run -0 --separate-stderr import a -o a.tsz
    [ "$stderr" = "hf-import: 'a': config.json has keys that the class of model_type llama does not\
 read; they are ignored: no_such_key, also" ]
    [ "$(id a)" = "$(id $llama)" ]
    $ST edit $llama b 'C["sliding_window"] = 16; C["kv_channels"] = 16'
    refused b "sliding_window 16 changes the function and is not supported for model_type llama\
 (--ignore-key sliding_window"
    run -1 import b --ignore-key sliding_window
    [[ $output == *"kv_channels is 16, but model_type llama computes with head_dim 8"* ]]
    ignored="--ignore-key sliding_window --ignore-key kv_channels"
    import b $ignored -o b.tsz
    [ "$("$BIN/hf-import" b $ignored | $ST id)" = "$(id $llama)" ]
    "$BIN/ts-dump" --hist b.tsz | grep -q -e "--ignore-key sliding_window --ignore-key kv_channels"
    export_ b out $ignored --quiet
    run ! grep -q sliding_window out/config.json
    "$BIN/gguf-export" b b.gguf $ignored --quiet
    "$BIN/search-arch" b/config.json --parameters 10000 --quiet $ignored > /dev/null
    "$BIN/gguf-export" b b.gguf --quiet $ignored
    [ "$("$BIN/gguf-import" b.gguf --quiet | $ST id)" = "$(id $llama)" ]
    for tool in "$BIN"/*; do
        [ -x "$tool" ] || continue
        "$tool" --help > help
        grep -qE '^Usage:.* (MODEL|STUDENT|DIR)' help || continue
        grep -q -e --ignore-key help || { echo "$tool"; false; }
    done
}

@test "the directory appears whole or not at all" {
    llama=$G/families/llama
    export_ "$llama" out
    run -1 export_ "$llama" out
    [[ $output == *"not empty"*--overwrite* ]]
    : > out/stray
    export_ "$llama" out --overwrite
    [ ! -e out/stray ]
    mkdir out/sub
    run -1 export_ "$llama" out --overwrite
    [[ $output == *sub* ]]
    [ -e out/config.json ]
    mkdir mine; echo precious > mine/thesis
    run -1 export_ "$llama" mine
    [[ $output == *"has no config.json, and is not overwritten: give another name"* ]]
    [[ $output != *--overwrite* ]]
    run -1 export_ "$llama" mine --overwrite
    [ -e mine/thesis ]
    mkdir empty
    export_ "$llama" empty/
    [ -e empty/config.json ]
    import "$llama" -o whole.tsz --compress none
    head -c 30000 whole.tsz > cut.tsz
    run -1 export_ cut.tsz never
    [ ! -e never ]
    run -1 export_ "$llama" no/such/place
    run -1 export_ whole.tsz whole.tsz
    echo plain > file
    run -1 export_ "$llama" file
    run -1 bash -c "trap '' XFSZ; ulimit -f 20; $BIN/hf-export $llama full"      # as on a full disk
    [[ $output == *"cannot write"* ]]
    [ ! -e full ]
    [ -z "$(ls -A | grep '^\.')" ]      # no temporary directory is left
}

@test "memory does not grow with the tensors, transposed ones too" {
    [ -z "$PARE_SANITIZED" ] || skip "AddressSanitizer reserves address space"
    $ST sparse big '
C.update(model_type="gpt2", n_embd=2048, n_head=32, n_layer=1, n_inner=36864, n_positions=16,
         vocab_size=40000)
def lin(name, i, o):
    T[name + ".weight"] = ("BF16", [i, o]); T[name + ".bias"] = ("BF16", [o])
def norm(name):
    T[name + ".weight"] = T[name + ".bias"] = ("BF16", [2048])
T["transformer.wte.weight"] = ("BF16", [40000, 2048])
T["transformer.wpe.weight"] = ("BF16", [16, 2048])
lin("transformer.h.0.attn.c_attn", 2048, 6144); lin("transformer.h.0.attn.c_proj", 2048, 2048)
lin("transformer.h.0.mlp.c_fc", 2048, 36864); lin("transformer.h.0.mlp.c_proj", 36864, 2048)
norm("transformer.h.0.ln_1"); norm("transformer.h.0.ln_2"); norm("transformer.ln_f")
'
    (ulimit -v 120000; import big | export_ - out)
    [ "$(stat -c %s out/model.safetensors)" -gt 480000000 ]
}
