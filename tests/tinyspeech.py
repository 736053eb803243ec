"Tiny models whose processors make a prompt or a blank of their own: transducers, Canary, Cohere ASR, speech LLMs."
import base64
import json

LETTERS = "abcdefghijklmnopqrstuvwxyzàèéìíòóùú'"
SENTENCES = ["la casa è in fondo alla strada", "il gatto dorme sul tetto"]
CONFORMER = dict(
    hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64, subsampling_factor=8,
    subsampling_conv_channels=8, conv_kernel_size=5, dropout=0.0, dropout_positions=0.0, layerdrop=0.0,
    activation_dropout=0.0, attention_dropout=0.0)
DECODER = dict(
    hidden_size=32, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=2, head_dim=16,
    intermediate_size=64)
WHISPERED = dict(hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2, num_mel_bins=80)


def trained(tokens, byte_level=False):
    "A vocabulary of pieces, learned from two sentences, with control tokens in front or behind."
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
    made = Tokenizer(models.BPE(unk_token=None if byte_level else "<unk>"))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False) if byte_level else pre_tokenizers.Metaspace()
    made.decoder = decoders.ByteLevel() if byte_level else decoders.Metaspace()
    alphabet = pre_tokenizers.ByteLevel.alphabet() if byte_level else list(LETTERS)
    first = [] if byte_level else list(tokens)
    trainer = trainers.BpeTrainer(vocab_size=280, special_tokens=first, initial_alphabet=alphabet, show_progress=False)
    made.train_from_iterator(SENTENCES, trainer)
    if byte_level: made.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in tokens])
    return made


def written(folder, config, processor):
    processor.save_pretrained(folder)
    processor.feature_extractor.save_pretrained(folder)
    config.save_pretrained(folder)
    return folder


def parakeet(kind):
    "RNNT pads with its blank, the last token; TDT has a pad of its own."
    def make(folder):
        from tokenizers import AddedToken
        from transformers import AutoConfig, ParakeetFeatureExtractor, ParakeetProcessor, ParakeetTokenizer
        pad = "<pad>" if kind == "tdt" else "<blank>"
        tokens = ["<unk>", "<pad>"] if kind == "tdt" else ["<unk>"]
        tokenizer = ParakeetTokenizer(tokenizer_object=trained(tokens), unk_token="<unk>")
        tokenizer.add_tokens([AddedToken("<blank>", normalized=False, special=True)])
        tokenizer.add_special_tokens({"pad_token": pad, "unk_token": "<unk>"})
        config = AutoConfig.for_model(
            f"parakeet_{kind}", vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id, decoder_hidden_size=32,
            blank_token_id=tokenizer.convert_tokens_to_ids("<blank>"), num_decoder_layers=1,
            encoder_config=dict(CONFORMER, num_mel_bins=80))
        return written(folder, config, ParakeetProcessor(ParakeetFeatureExtractor(), tokenizer, decoder_type=kind))
    return make


CANARY = (
    "{%- for m in messages -%}{%- if m.role == 'user' -%}{%- for c in m.content -%}{%- if c.type == 'text' -%}"
    "<|startofcontext|><|startoftranscript|><|emo:undefined|><|{{ c.source_language }}|><|{{ c.target_language }}|>"
    "{{ '<|pnc|>' if c.punctuation else '<|nopnc|>' }}<|noitn|><|notimestamp|><|nodiarize|>"
    "{%- endif -%}{%- endfor -%}{%- elif m.role == 'assistant' -%}"
    "{%- if m.content is string -%}{{ m.content }}{%- else -%}"
    "{%- for c in m.content -%}{{ c.text }}{%- endfor -%}{%- endif -%}<|endoftext|>{%- endif -%}{%- endfor -%}")
NVIDIA = [
    "<unk>", "<|nospeech|>", "<pad>", "<|endoftext|>", "<|startoftranscript|>", "<|pnc|>", "<|nopnc|>",
    "<|startofcontext|>", "<|emo:undefined|>", "<|it|>", "<|es|>", "<|en|>", "<|noitn|>", "<|notimestamp|>",
    "<|nodiarize|>"]


def nvidia():
    from transformers import PreTrainedTokenizerFast
    return PreTrainedTokenizerFast(
        tokenizer_object=trained(NVIDIA), bos_token="<|startoftranscript|>", eos_token="<|endoftext|>",
        pad_token="<pad>", unk_token="<unk>")


def canary(folder):
    from transformers import CanaryConfig, CanaryProcessor, ParakeetFeatureExtractor
    tokenizer = nvidia()
    config = CanaryConfig(
        vocab_size=len(tokenizer), encoder_config=dict(CONFORMER, num_mel_bins=80),
        decoder_config=dict(DECODER, vocab_size=len(tokenizer), max_position_embeddings=128))
    return written(folder, config, CanaryProcessor(ParakeetFeatureExtractor(), tokenizer, chat_template=CANARY))


def cohere_asr(folder):
    from transformers import CohereAsrConfig, CohereAsrFeatureExtractor, CohereAsrProcessor
    tokenizer = nvidia()
    config = CohereAsrConfig(
        vocab_size=len(tokenizer), encoder_config=dict(CONFORMER, num_mel_bins=80), max_position_embeddings=128,
        **DECODER)
    return written(folder, config, CohereAsrProcessor(CohereAsrFeatureExtractor(feature_size=80), tokenizer))


QWEN = (
    "{{ '<|im_start|>system\n' }}{%- for m in messages if m.role == 'system' -%}"
    "{%- for c in m.content -%}{{ c.text }}{%- endfor -%}{%- endfor -%}"
    "{{ '<|im_end|>\n<|im_start|>user\n<|audio_start|><|audio_pad|><|audio_end|><|im_end|>\n' }}"
    "{%- for m in messages if m.role == 'assistant' -%}{{ '<|im_start|>assistant\n' }}"
    "{%- for c in m.content -%}{{ c.text }}{%- endfor -%}{{ '<|im_end|>\n' }}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\n' }}{%- endif -%}")
CHAT = [
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|audio_start|>", "<|audio_end|>", "<|audio_pad|>", "<asr_text>"]


def qwen3_asr(folder):
    from transformers import PreTrainedTokenizerFast, Qwen3ASRConfig, Qwen3ASRFeatureExtractor, Qwen3ASRProcessor
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=trained(CHAT, byte_level=True), eos_token="<|im_end|>", pad_token="<|endoftext|>",
        extra_special_tokens=dict(
            audio_token="<|audio_pad|>", audio_bos_token="<|audio_start|>", audio_eos_token="<|audio_end|>"))
    ids = tokenizer.convert_tokens_to_ids
    config = Qwen3ASRConfig(
        audio_config=dict(
            num_mel_bins=80, encoder_layers=1, encoder_attention_heads=2, encoder_ffn_dim=64, d_model=32, output_dim=32,
            downsample_hidden_size=8),
        text_config=dict(DECODER, vocab_size=len(tokenizer), max_position_embeddings=2048, tie_word_embeddings=True),
        audio_token_id=ids("<|audio_pad|>"), pad_token_id=ids("<|endoftext|>"), eos_token_id=[ids("<|im_end|>")])
    extractor = Qwen3ASRFeatureExtractor(feature_size=80)
    return written(folder, config, Qwen3ASRProcessor(extractor, tokenizer, chat_template=QWEN))


GLM = (
    "{%- for m in messages -%}{%- if m.role == 'user' -%}{{ '<|user|>\n' }}{%- for c in m.content -%}"
    "{%- if c.type == 'audio' -%}{{ '<|begin_of_audio|><|pad|><|end_of_audio|><|user|>\n' }}"
    "{%- else -%}{{ c.text }}{%- endif -%}{%- endfor -%}"
    "{%- elif m.role == 'assistant' -%}{{ '<|assistant|>\n' }}{%- if m.content is string -%}{{ m.content }}"
    "{%- else -%}{%- for c in m.content -%}{{ c.text }}{%- endfor -%}{%- endif -%}"
    "{%- endif -%}{%- endfor -%}{%- if add_generation_prompt -%}{{ '<|assistant|>\n' }}{%- endif -%}")
GLM_TOKENS = [
    "<|endoftext|>", "<|user|>", "<|assistant|>", "<|observation|>", "<|begin_of_audio|>", "<|end_of_audio|>",
    "<|pad|>"]


def glmasr(folder):
    from transformers import GlmAsrConfig, GlmAsrProcessor, PreTrainedTokenizerFast, WhisperFeatureExtractor
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=trained(GLM_TOKENS, byte_level=True), eos_token="<|endoftext|>", pad_token="<|endoftext|>",
        padding_side="left")
    ids = tokenizer.convert_tokens_to_ids
    config = GlmAsrConfig(
        audio_config=dict(WHISPERED, num_key_value_heads=2), audio_token_id=ids("<|pad|>"),
        text_config=dict(
            DECODER, vocab_size=len(tokenizer), max_position_embeddings=2048, bos_token_id=None,
            eos_token_id=ids(["<|endoftext|>", "<|user|>"]), pad_token_id=ids("<|endoftext|>")))
    extractor = WhisperFeatureExtractor(feature_size=80)
    return written(folder, config, GlmAsrProcessor(extractor, tokenizer, chat_template=GLM))


MISTRAL = [
    "<unk>", "<s>", "</s>", "[INST]", "[/INST]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]", "[TOOL_RESULTS]",
    "[/TOOL_RESULTS]", "[TOOL_CALLS]", "[IMG]", "<pad>", "[IMG_BREAK]", "[IMG_END]", "[PREFIX]", "[MIDDLE]", "[SUFFIX]",
    "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]", "[TOOL_CONTENT]", *[f"<SPECIAL_{i}>" for i in range(20, 24)], "[AUDIO]",
    "[BEGIN_AUDIO]", *[f"<SPECIAL_{i}>" for i in range(26, 34)], "[TRANSCRIBE]",
]


def tekken():
    "The vocabulary of Mistral's own kind: bytes, and control tokens."
    tokens = [{"rank": i, "token_str": t, "is_control": True} for i, t in enumerate(MISTRAL)]
    byte = lambda i: {"rank": i, "token_bytes": base64.b64encode(bytes([i])).decode(), "token_str": chr(i)}
    sizes = dict(
        pattern=r"\s?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+|\s+", num_vocab_tokens=256, default_vocab_size=256 + len(tokens),
        default_num_special_tokens=len(tokens), version="v7")
    audio = {"sampling_rate": 16000, "frame_rate": 12.5, "chunk_length_s": 30.0,
             "audio_encoding_config": {"num_mel_bins": 80, "hop_length": 160, "window_size": 400}}
    return {"config": sizes, "vocab": [byte(i) for i in range(256)], "special_tokens": tokens, "audio": audio}


def voxtral(folder):
    from transformers import AutoTokenizer, VoxtralConfig, VoxtralProcessor, WhisperFeatureExtractor
    from transformers.tokenization_mistral_common import MistralCommonBackend
    (folder / "tekken.json").write_text(json.dumps(tekken()), encoding="utf-8")
    tokenizer = MistralCommonBackend(str(folder / "tekken.json"))
    config = VoxtralConfig(
        audio_config=dict(WHISPERED, intermediate_size=128, vocab_size=10), audio_token_id=24,
        text_config=dict(DECODER, vocab_size=256 + len(MISTRAL), max_position_embeddings=2048, model_type="llama"))
    return written(folder, config, VoxtralProcessor(WhisperFeatureExtractor(feature_size=80), tokenizer))


def rnnt_loss(logits, labels, logit_lengths, label_lengths, blank_token_id, **kwargs):
    "The loss of an RNN transducer by its definition, frame by frame, for where torchaudio isn't installed."
    import torch
    total = 0
    for one, ids, frames, n in zip(logits.log_softmax(-1), labels, logit_lengths.tolist(), label_lengths.tolist()):
        blank = one[:frames, :n + 1, blank_token_id]
        write = one[:frames, :n].gather(2, ids[:n].expand(frames, n)[..., None])[..., 0]
        ways = None
        for t in range(frames):
            stay = torch.zeros(1) if t == 0 else ways[:1] + blank[t - 1, :1]
            row = [stay[0]]
            for u in range(1, n + 1):
                up = row[u - 1] + write[t, u - 1]
                row.append(up if t == 0 else torch.logaddexp(up, ways[u] + blank[t - 1, u]))
            ways = torch.stack(row)
        total = total - (ways[n] + blank[frames - 1, n])
    return total / label_lengths.sum()


def net_of(config):
    "The torch model of a configuration."
    import transformers
    net = getattr(transformers, CLASSES[config.model_type])(config)
    if config.model_type == "parakeet_rnnt": net.loss_function = rnnt_loss
    return net


def own_parakeet(processor, clips, sentences): return processor(audio=clips, text=sentences, sampling_rate=16_000)


def with_labels(processor, chats):
    return processor.apply_chat_template(
        chats, tokenize=True, return_dict=True, processor_kwargs={"output_labels": True})


def own_canary(processor, clips, sentences):
    asks = {"type": "text", "source_language": "it", "target_language": "it", "punctuation": True}
    chats = [
        [{"role": "user", "content": [{"type": "audio", "audio": c}, asks]}, {"role": "assistant", "content": s}]
        for c, s in zip(clips, sentences)]
    return with_labels(processor, chats)


def own_cohere(processor, clips, sentences):
    "As its processor gives it, but for the text behind the prompt: the decoder of its own has no loss."
    import torch
    made = dict(processor(audio=clips, language="it", text=sentences, sampling_rate=16_000))
    del made["audio_chunk_index"]
    prompt, pad, end = made["decoder_input_ids"][0], processor.tokenizer.pad_token_id, processor.tokenizer.eos_token_id
    rows = [[*prompt.tolist(), *[i for i in row.tolist() if i != pad], end] for row in made["labels"]]
    longest = max(map(len, rows))
    whole = torch.tensor([row + [pad] * (longest - len(row)) for row in rows])
    labels = torch.tensor([[-100] * len(prompt) + row[len(prompt):] + [-100] * (longest - len(row)) for row in rows])
    return made | {"decoder_input_ids": whole[:, :-1], "labels": labels[:, 1:]}


def own_qwen3(processor, clips, sentences):
    chats = [
        [{"role": "user", "content": [{"type": "audio", "audio": c}]},
         {"role": "assistant", "content": [{"type": "text", "text": f"language Italian<asr_text>{s}"}]}]
        for c, s in zip(clips, sentences)]
    return with_labels(processor, chats)


def own_glmasr(processor, clips, sentences):
    "Its template ends an answer with nothing, and its padding is its end: the answer has another end, put right after."
    asks = {"type": "text", "text": processor.default_transcription_prompt}
    chats = [
        [{"role": "user", "content": [{"type": "audio", "audio": c}, asks]},
         {"role": "assistant", "content": f"{s}<|observation|>"}]
        for c, s in zip(clips, sentences)]
    made = with_labels(processor, chats)
    for key in ("input_ids", "labels"): made[key][:, -1] = processor.tokenizer.eos_token_id
    return made


def own_voxtral(processor, clips, sentences):
    "Its processor makes requests alone: the answers follow, each row padded on the left again."
    import torch
    made = dict(processor.apply_transcription_request(
        audio=clips, language="it", model_id="tiny", sampling_rate=16_000, format=["WAV"] * len(clips)))
    answers = [processor.tokenizer.encode(s, add_special_tokens=False) + [2] for s in sentences]
    longest = max(map(len, answers))
    left = lambda rows, fill: torch.tensor([[fill] * (longest - len(a)) + r for a, r in zip(answers, rows)])
    asked = made["input_ids"].tolist()  # all of one length, as sound is padded to 30 s
    made["input_ids"] = left([q + a for q, a in zip(asked, answers)], processor.tokenizer.pad_token_id)
    made["attention_mask"] = left([[1] * (len(q) + len(a)) for q, a in zip(asked, answers)], 0)
    made["labels"] = left([[-100] * len(q) + a for q, a in zip(asked, answers)], -100)
    return made


OWN = {
    "parakeet_tdt": own_parakeet, "parakeet_rnnt": own_parakeet, "canary": own_canary, "cohere_asr": own_cohere,
    "qwen3_asr": own_qwen3, "glmasr": own_glmasr, "voxtral": own_voxtral,
}
LLMS = ("qwen3_asr", "glmasr", "voxtral")
CLASSES = {
    "parakeet_tdt": "ParakeetForTDT", "parakeet_rnnt": "ParakeetForRNNT", "canary": "CanaryForConditionalGeneration",
    "cohere_asr": "CohereAsrForConditionalGeneration", "qwen3_asr": "Qwen3ASRForConditionalGeneration",
    "glmasr": "GlmAsrForConditionalGeneration", "voxtral": "VoxtralForConditionalGeneration",
}
MORE = {
    "parakeet_tdt": parakeet("tdt"), "parakeet_rnnt": parakeet("rnnt"), "canary": canary, "cohere_asr": cohere_asr,
    "qwen3_asr": qwen3_asr, "glmasr": glmasr, "voxtral": voxtral,
}


def mistral_common():
    "Whether the installed mistral-common is new enough for transformers."
    from transformers.utils.import_utils import is_mistral_common_available
    return is_mistral_common_available()


# What can be served here: Voxtral wants a mistral-common that wants an older numpy; Python 3.10's transformers is older
def served():
    from inspect import signature
    from transformers import GlmAsrProcessor
    asks_in_text = "tokenize" in signature(GlmAsrProcessor.apply_transcription_request).parameters
    kinds = ["parakeet_tdt", "parakeet_rnnt", "cohere_asr"]
    if asks_in_text: kinds += ["canary", "qwen3_asr", "glmasr"]
    if mistral_common(): kinds.append("voxtral")
    return {kind: MORE[kind] for kind in kinds}


SERVED = served()
