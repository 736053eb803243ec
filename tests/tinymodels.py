"""Tiny models of each kind, made on the spot: a folder with the files of a real processor, a small vocabulary and a config.json; and the model itself, with random weights."""
import json
from pathlib import Path

from tinyspeech import CLASSES, SERVED, net_of

LETTERS = "abcdefghijklmnopqrstuvwxyzàèéìíòóùú'"
SMALL = dict(
    hidden_size=32,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=64,
    hidden_dropout=0.0,
    attention_dropout=0.0,
    activation_dropout=0.0,
    feat_proj_dropout=0.0,
    final_dropout=0.0,
    layerdrop=0.0,
    mask_time_prob=0.0,
)
CONVOLVED = dict(
    conv_dim=(32,) * 7, num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=2, conv_bias=True
)


def letters(folder, **tokens):
    "Write the vocabulary of a CTC model: control tokens, and letters."
    from transformers import Wav2Vec2CTCTokenizer
    words = ["<pad>", "<s>", "</s>", "<unk>", "|", *LETTERS]
    (folder / "vocab.json").write_text(json.dumps({w: i for i, w in enumerate(words)}), encoding="utf-8")
    return Wav2Vec2CTCTokenizer(str(folder / "vocab.json"), **tokens)


def written(folder, config, processor):
    "Save what a model's folder holds beside its weights."
    processor.save_pretrained(folder)
    processor.feature_extractor.save_pretrained(folder)
    config.save_pretrained(folder)
    return folder


def waves(kind, masked, **more):
    "A maker of folders of one of wav2vec2's relatives."
    def make(folder):
        from transformers import AutoConfig, Wav2Vec2FeatureExtractor, Wav2Vec2Processor
        extractor = Wav2Vec2FeatureExtractor(return_attention_mask=masked)
        tokenizer = letters(folder)
        norm = {} if kind == "data2vec-audio" else dict(feat_extract_norm="layer" if masked else "group")
        config = AutoConfig.for_model(
            kind, vocab_size=len(tokenizer), pad_token_id=0, ctc_loss_reduction="mean",
            **{**SMALL, **CONVOLVED, **norm, **more})
        return written(folder, config, Wav2Vec2Processor(extractor, tokenizer))
    return make


def w2v_bert(folder):
    from transformers import SeamlessM4TFeatureExtractor, Wav2Vec2BertConfig, Wav2Vec2BertProcessor
    tokenizer = letters(folder)
    extractor = SeamlessM4TFeatureExtractor(padding_value=1.0)
    config = Wav2Vec2BertConfig(
        vocab_size=len(tokenizer), pad_token_id=0, add_adapter=True, num_adapter_layers=1, ctc_loss_reduction="mean",
        output_hidden_size=32, conformer_conv_dropout=0.0, **SMALL)
    return written(folder, config, Wav2Vec2BertProcessor(extractor, tokenizer))


def pieces(tokens=("<unk>", "<pad>"), sentences=None):
    "A tokenizer of pieces of words, learned from a few sentences."
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    made = Tokenizer(models.BPE(unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    made.decoder = decoders.Metaspace()
    trainer = trainers.BpeTrainer(
        vocab_size=120, special_tokens=list(tokens), initial_alphabet=list(LETTERS), show_progress=False)
    made.train_from_iterator(sentences or ["la casa è in fondo alla strada", "il gatto dorme sul tetto"], trainer)
    return made


def parakeet_ctc(folder):
    from transformers import ParakeetCTCConfig, ParakeetFeatureExtractor, ParakeetProcessor, ParakeetTokenizer
    tokenizer = ParakeetTokenizer(tokenizer_object=pieces(), unk_token="<unk>", pad_token="<pad>")
    encoder = dict(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, num_mel_bins=80,
        subsampling_factor=4, subsampling_conv_channels=8, conv_kernel_size=5, dropout=0.0, dropout_positions=0.0,
        layerdrop=0.0,
        activation_dropout=0.0, attention_dropout=0.0)
    config = ParakeetCTCConfig(vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id, encoder_config=encoder)
    return written(folder, config, ParakeetProcessor(ParakeetFeatureExtractor(), tokenizer, decoder_type="ctc"))


SENTENCES = ["la casa è in fondo alla strada", "il gatto dorme sul tetto", "sì, l'ho visto ieri sera"] * 20


def speech_to_text(folder):
    import io
    import sentencepiece
    from transformers import Speech2TextConfig, Speech2TextFeatureExtractor, Speech2TextProcessor, Speech2TextTokenizer
    made = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(SENTENCES), model_writer=made, vocab_size=60, hard_vocab_limit=False, minloglevel=2)
    model = folder / "sentencepiece.bpe.model"
    model.write_bytes(made.getvalue())
    read = sentencepiece.SentencePieceProcessor(model_proto=made.getvalue())
    words = ["<s>", "<pad>", "</s>", "<unk>", *(read.id_to_piece(i) for i in range(3, read.get_piece_size()))]
    (folder / "vocab.json").write_text(json.dumps({w: i for i, w in enumerate(words)}), encoding="utf-8")
    tokenizer = Speech2TextTokenizer(str(folder / "vocab.json"), str(model))
    config = Speech2TextConfig(
        vocab_size=len(tokenizer), d_model=32, encoder_layers=2, decoder_layers=2, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=64, decoder_ffn_dim=64, dropout=0.0, conv_channels=32,
        max_source_positions=1000, max_target_positions=64)
    return written(folder, config, Speech2TextProcessor(Speech2TextFeatureExtractor(), tokenizer))


def seamless_m4t_v2(folder):
    from transformers import (
        SeamlessM4TFeatureExtractor, SeamlessM4TProcessor, SeamlessM4TTokenizer, SeamlessM4Tv2Config
    )
    learned = json.loads(pieces(("<pad>", "<unk>", "<s>", "</s>")).to_str())["model"]
    tokenizer = SeamlessM4TTokenizer(
        vocab=learned["vocab"], merges=[tuple(m) for m in learned["merges"]], src_lang="eng", tgt_lang="eng",
        additional_special_tokens=["__eng__", "__ita__"])
    config = SeamlessM4Tv2Config(
        vocab_size=len(tokenizer), hidden_size=32, speech_encoder_layers=1, speech_encoder_attention_heads=2,
        speech_encoder_intermediate_size=64, encoder_layers=1, encoder_ffn_dim=64, encoder_attention_heads=2,
        decoder_layers=1, decoder_ffn_dim=64, decoder_attention_heads=2, dropout=0.0, attention_dropout=0.0,
        activation_dropout=0.0, speech_encoder_dropout=0.0, adaptor_dropout=0.0, encoder_layerdrop=0.0,
        decoder_layerdrop=0.0, speech_encoder_layerdrop=0.0, max_position_embeddings=128, t2u_encoder_layers=1,
        t2u_decoder_layers=1, pad_token_id=0, bos_token_id=2, eos_token_id=3, decoder_start_token_id=3,
        left_max_position_embeddings=8, right_max_position_embeddings=4)
    return written(folder, config, SeamlessM4TProcessor(SeamlessM4TFeatureExtractor(), tokenizer))


def moonshine(folder):
    from transformers import MoonshineConfig, PreTrainedTokenizerFast, Wav2Vec2FeatureExtractor, Wav2Vec2Processor
    made = pieces(("<unk>", "<s>", "</s>"))
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=made, unk_token="<unk>", bos_token="<s>", eos_token="</s>", pad_token="</s>")
    config = MoonshineConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, encoder_num_hidden_layers=1,
        decoder_num_hidden_layers=1, encoder_num_attention_heads=2, decoder_num_attention_heads=2,
        max_position_embeddings=256, pad_token_id=2, bos_token_id=1, eos_token_id=2)
    extractor = Wav2Vec2FeatureExtractor(do_normalize=False, return_attention_mask=True)
    return written(folder, config, Wav2Vec2Processor(extractor, tokenizer))


# model_type: what writes a folder of such a model into an empty folder, and gives the folder back
SEW = dict(
    conv_dim=(16, 32, 32), conv_kernel=(10, 3, 3), conv_stride=(5, 4, 4), squeeze_factor=2, num_conv_pos_embeddings=16,
    num_conv_pos_embedding_groups=2)
TINY = {
    "wav2vec2": waves("wav2vec2", masked=True),
    "wav2vec2-group": waves("wav2vec2", masked=False),
    "hubert": waves("hubert", masked=True),
    "wavlm": waves("wavlm", masked=True),
    "data2vec-audio": waves("data2vec-audio", masked=True),
    "sew": waves("sew", masked=True, **SEW),
    "wav2vec2-bert": w2v_bert,
    "parakeet_ctc": parakeet_ctc,
    "speech_to_text": speech_to_text,
    "seamless_m4t_v2": seamless_m4t_v2,
    "moonshine": moonshine,
}

TINY |= SERVED


def tiny_folder(kind, root):
    "The folder of a tiny model, made below a folder."
    folder = Path(root) / kind
    folder.mkdir(parents=True)
    return TINY[kind](folder)


CTC = ("wav2vec2", "hubert", "wavlm", "data2vec-audio", "sew", "wav2vec2-bert", "parakeet_ctc")


def tiny_model(folder, seed=0):
    "The torch model of such a folder, with random weights, the same each time."
    import torch
    from transformers import AutoConfig, AutoModelForCTC, AutoModelForSpeechSeq2Seq
    torch.manual_seed(seed)
    config = AutoConfig.from_pretrained(folder)
    if config.model_type in CLASSES: return net_of(config)
    auto = AutoModelForCTC if config.model_type in CTC else AutoModelForSpeechSeq2Seq
    return auto.from_config(config)
