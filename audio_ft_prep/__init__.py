"""Speech corpora in, training-ready data for Whisper fine-tuning out: exact, small, every dropped clip accounted for

It takes a corpus as it is: Common Voice with its faults, a folder of your own recordings, or a data set on the Hub. It checks each clip, cuts nothing, and stores what the model's own extractor and tokenizer would make of it, in a fraction of the disk, with all cores of the machine at work. A clip that can't be used is listed with its reason, and a run that was killed can be resumed. It needs no FFmpeg, no GPU, and for `openai/whisper-*` no network.

Modules:

- `audio_ft_prep.accounts`: What became of the rows of a run: kept or rejected, and the numbers add up
- `audio_ft_prep.agreement`: How far what a model heard is from what a clip is said to say, and what that is a sign of
- `audio_ft_prep.align`: Recordings of hours and their texts, or recordings alone, as a table of sentences with times and scores that `prepare` reads
- `audio_ft_prep.archive`: What a release's archive holds, read once from front to back; a bomb, a damaged file and a member that leads out are stopped
- `audio_ft_prep.arrow`: Arrow and Parquet files of others, opened so that nothing they claim is believed before it is checked
- `audio_ft_prep.artifact`: Onto the platform whole or not at all, and back again with every hash checked
- `audio_ft_prep.audio`: A clip's bytes as mono samples at the model's rate, or the reason why not
- `audio_ft_prep.audiocolumn`: The column of audio in a table: which it is, how it holds audio, and where in a file each clip is
- `audio_ft_prep.audioleaks`: What train and another set share as it is heard: the same samples in another file, or a copy that was encoded again
- `audio_ft_prep.augment`: Changes on the fly to what a model is trained on: the same for the same seed, epoch and clip, and never to eval
- `audio_ft_prep.augmented`: A clip before and after its augmentation, to be seen and heard
- `audio_ft_prep.background`: Work in a thread while a notebook stays usable: one run at a time, how far it is, and a way to stop it
- `audio_ft_prep.batches`: Batches of clips of about the same length, by their total seconds
- `audio_ft_prep.boxes`: A config as the boxes of a form: what each may hold, how it is read, what is wrong with it, and the command that says the same
- `audio_ft_prep.browser`: Clips to leaf through: those that were kept and those that weren't, each to be seen, heard and read
- `audio_ft_prep.browsing`: What is looked for in a list of clips: filters, an order, and how many clips are on either side of a threshold
- `audio_ft_prep.captionfiles`: The captions of a file, whatever program wrote it
- `audio_ft_prep.captions`: Recordings with captions: subtitles, annotations, or segments of a transcriber, one file for each recording
- `audio_ft_prep.captiontext`: What is said in a caption: its words without markup, who says them, and whether it is speech at all
- `audio_ft_prep.card`: What a prepared folder says of itself: a data card for people, Croissant metadata for programs
- `audio_ft_prep.checks`: What was typed into a form, and what is wrong with it
- `audio_ft_prep.choosing`: How many rows, whose, and in which order: maxima, caps, shares and votes, before a byte of audio is decoded
- `audio_ft_prep.chunks`: Whether a WAV, AIFF, CAF, W64, AU or SPHERE file is all there
- `audio_ft_prep.cleaning`: A column of sentences, cleaned as a setting says, with what was changed on record
- `audio_ft_prep.cli`: The command: one line that works, and one sentence when it can't
- `audio_ft_prep.clipfacts`: What the clips of a prepared folder say together: flags, measures, speakers, groups, repeated sentences
- `audio_ft_prep.clipfile`: clips.parquet, written shard by shard, and read as if anybody had written it
- `audio_ft_prep.cliphearer`: A stored clip, and the others of its batch, heard by the worker that is given it
- `audio_ft_prep.cliplist`: The clips of a corpus or of a prepared folder as a list, kept ones and rejects: to be filtered, and opened one at a time
- `audio_ft_prep.clipnames`: What the clips of a table are called, so that rows of one clip have one name and two clips never share one
- `audio_ft_prep.cliprows`: One row for each kept clip: who says what, what was measured, which flags are raised
- `audio_ft_prep.clips`: A clip to look at and listen to: waveform, log-mel, labels piece by piece, a player
- `audio_ft_prep.cliptable`: Every kept clip of a prepared folder as one table: who says what, what was measured, which flags are raised
- `audio_ft_prep.cluster`: The same shards, made by the machines of a Ray cluster
- `audio_ft_prep.collator`: Batches for any model, of the items of `load_prepared`
- `audio_ft_prep.collective`: Common Voice as Mozilla Data Collective hands it out: the archive as it is, or unpacked
- `audio_ft_prep.columns`: The columns of a table with audio: which holds the sentence, the speaker, the times, and what they say, read without the audio
- `audio_ft_prep.commands`: Commands around preparing: several folders as one, clips that a model hears, how good it is, long recordings
- `audio_ft_prep.commonvoice`: Tar shards and transcripts of Common Voice, read in place: nothing extracted, nothing dropped without a reason
- `audio_ft_prep.comparison`: Two prepared folders side by side: settings, counts, flags, measures, and which clips came and went
- `audio_ft_prep.config`: One run, described once: what to prepare, for which model, and how it is stored
- `audio_ft_prep.configfile`: A run's settings in a file of YAML or JSON, written whole or by hand
- `audio_ft_prep.console`: What all commands have in common: how a result is printed, and how a folder is named
- `audio_ft_prep.container`: Whether a clip's bytes are all there, found without decoding a sample
- `audio_ft_prep.corpora`: What all readers of corpora share: names of clips, lines of text, languages, and the description of a split
- `audio_ft_prep.ctc`: CTC models: letters as labels, and a clip that must be long enough for them
- `audio_ft_prep.cues`: Captions of a recording in order: repeats taken off, sentences joined, and what can't be used set apart with its reason
- `audio_ft_prep.datafiles`: The files of a data set, found and opened alike in a folder and on the Hub
- `audio_ft_prep.decoding`: The bytes of a file as samples at its own rate, all of them or a part
- `audio_ft_prep.disk`: How much room a disk has, and what a file holds
- `audio_ft_prep.doctor`: What would stop a run on this machine, or in this job, found before it costs an hour
- `audio_ft_prep.dress`: The look of widgets in a notebook: in JupyterLab's colours, by keyboard and for screen readers, and as a page where no kernel runs
- `audio_ft_prep.dropping`: Rows leave on the record: each with its reason and what was seen
- `audio_ft_prep.effects`: What changes a clip's sound: speed, tempo, level, noise at a ratio, a room, a band, a telephone, clipping
- `audio_ft_prep.engines`: What makes the shards of a run: one contract for this machine's processes, for a Ray cluster, and for an engine of your own
- `audio_ft_prep.errors`: What the system refuses, in one sentence that ends with what to do
- `audio_ft_prep.evalof`: What a test is over: how many rows of the corpus's own test are in eval, and why the others aren't
- `audio_ft_prep.evaluate`: How good a model is, and for whom: error rates with intervals, by group, speaker, length and noise
- `audio_ft_prep.example`: One row in, one training example out, or the reason why not
- `audio_ft_prep.export`: A prepared folder in another toolkit's form: one call, checked first, and there as a whole or not at all
- `audio_ft_prep.exported`: Rejected and flagged clips as files to listen to, with a table of what was measured and what is said
- `audio_ft_prep.exports`: The files of other toolkits, written from clips one after the other: NeMo, Lhotse, WebDataset, Kaldi, AudioFolder
- `audio_ft_prep.families`: What a kind of speech models wants of audio and of text, as one class to fill in
- `audio_ft_prep.fastwhisper`: Whisper on the processor, four times as fast: CTranslate2 with whole numbers of 8 bits, through faster-whisper
- `audio_ft_prep.features`: Samples to log-mel: only the valid frames, bit for bit what the model's own extractor computes
- `audio_ft_prep.fields`: Columns of an Arrow table read as texts, labels and parts of recordings, by the rules of `values`, a million rows at a time
- `audio_ft_prep.figures`: The look of every plot: one size, colours that all eyes tell apart, the same bytes each time
- `audio_ft_prep.findings`: What is found of clips: which flags their measures raise, and how far their speech rate is from the usual
- `audio_ft_prep.fingerprints`: Whether two clips hold the same audio: to the sample, or nearly, in another encoding and at another level
- `audio_ft_prep.flagcounts`: How many clips raise which flag, and which flags are looked for: the words for plan, summary and data card
- `audio_ft_prep.flags`: What is worth a second look in a clip: the measure it is read from, on which side of a threshold, and what to do
- `audio_ft_prep.folder`: Your own recordings, with the list that says what is said in them: AudioFolder, CSV, TSV, NeMo manifest or Kaldi directory
- `audio_ft_prep.forecast`: What a run writes, what memory it needs and about how long it takes, before it starts
- `audio_ft_prep.form`: What a form knows and does: it looks at corpora and models, runs plans and preparations, and says what it shows
- `audio_ft_prep.forward`: Parts of a recording that can only be read forwards, one after the other, without reading it anew for each
- `audio_ft_prep.found`: What workers found of clips, read back from a run's work folder, and believed only by its hash
- `audio_ft_prep.given`: What a transcript says in numbers: votes, times and durations, read or refused by row
- `audio_ft_prep.heard`: What models have heard in a prepared folder, in tables beside its shards, and never believed unseen
- `audio_ft_prep.hearing`: A recording of hours, heard by a model in windows that end in pauses, and what was heard kept as it comes
- `audio_ft_prep.hub`: A data set on the Hugging Face Hub, file by file: what it holds, and only the bytes that are needed
- `audio_ft_prep.hubclient`: Which Hub is asked, where what it gives is kept, and what its errors mean
- `audio_ft_prep.hubexport`: A prepared folder as a data set on the Hugging Face Hub: Parquet that its viewer plays, a card, Croissant
- `audio_ft_prep.hubtars`: Common Voice on the Hub: transcripts first, and of the tars only what the chosen rows need
- `audio_ft_prep.hypotheses`: What a model heard in a clip, and what anything that hears clips can do
- `audio_ft_prep.intervals`: Error rates with the interval that a test of this size allows: of all clips, of groups, of differences
- `audio_ft_prep.job`: What surrounds a run when it is a job of the platform: parameters, a token, a folder to work in, metrics, the log, advice
- `audio_ft_prep.joining`: Rows of a transcript and clips of a split, joined by name; what has no counterpart is on record with its reason
- `audio_ft_prep.kaldi`: The utterances of a Kaldi directory, and whatever its files disagree about
- `audio_ft_prep.kinds`: What kind of file bytes are, and what is known of a file before it is decoded
- `audio_ft_prep.knownaudio`: Audio that train must not have, small enough to go to every worker
- `audio_ft_prep.languages`: A language by any of its codes or names
- `audio_ft_prep.leaks`: What train and another set share, found before a byte of audio is decoded: speakers, sentences, files
- `audio_ft_prep.lengths`: How long clips last, before any of them is decoded: from the corpus, from their headers, or about
- `audio_ft_prep.letters`: Vocabularies of letters: what one can write, what becomes unknown, and one made of a corpus
- `audio_ft_prep.levels`: How loud a clip is from moment to moment, and where something is heard in it
- `audio_ft_prep.lines`: One line of a list, whatever the list: which file is meant, what is said in it, and by whom
- `audio_ft_prep.links`: Which files a corpus may use: plain files inside it, and links into its own store of the Hub, git-annex or DVC
- `audio_ft_prep.listen`: A model hears the clips of a prepared folder, and what it heard is kept beside them
- `audio_ft_prep.listing`: The lists of a folder of recordings, found by the names of its files, and every line of them
- `audio_ft_prep.load`: One door to every kind of corpus: what is there decides how it is read
- `audio_ft_prep.local`: The shards of a run, made by processes of this machine
- `audio_ft_prep.locks`: One run at a time at a URL, where there are no locks
- `audio_ft_prep.logmels`: Stored log-mels, or sound, as a batch at the width that the model sees, with a mask of what is padding
- `audio_ft_prep.lookup`: What the settings of a run mean: which corpus a name finds, which splits it lacks, what the model refuses, which folder is there already
- `audio_ft_prep.machine`: How many workers this machine can run, and whether a run gets the memory it needs
- `audio_ft_prep.manifest`: What a run makes and from what, and whether two runs make the same
- `audio_ft_prep.measures`: What is measured of a clip and stored with it, in one table
- `audio_ft_prep.media`: Recordings that libsndfile doesn't know: m4a, mp4, AAC, WebM, Matroska, WMA and AMR
- `audio_ft_prep.members`: The prepared folders that are to be one: their names, whether they fit, and what they have in common
- `audio_ft_prep.metrics`: WER and CER for a training loop, offline: what was written of each clip, and how far it is from what was said
- `audio_ft_prep.mix`: Prepared folders as one: what they share taken out where asked, each recording of train once, drawn by weight
- `audio_ft_prep.mixture`: Which clip comes next when several corpora are one: by weight, the same for the same seed, and from any place on
- `audio_ft_prep.modelfiles`: A model's folder from anywhere, read without trusting it
- `audio_ft_prep.modelof`: The model that someone means: an id, a folder, a processor, or a model that is about to be trained
- `audio_ft_prep.models`: The processor of the model to prepare for, by its id or its folder, without its weights
- `audio_ft_prep.mozilla`: A release downloaded from Mozilla Data Collective, with its own package; every failure is one sentence
- `audio_ft_prep.mp3`: Whether an MP3 is all there, and which of its bytes to decode
- `audio_ft_prep.mpeg`: The frames of an MP3, the tags around them and the headers that count them
- `audio_ft_prep.naming`: A name for every clip that a list means, the same in every layout, and a split for every line
- `audio_ft_prep.netlisteners`: Any model of transformers hears clips: Whisper, CTC, Moonshine, on the processor or on a GPU
- `audio_ft_prep.noises`: Noises and rooms from your own folders, read a stretch at a time at the rate of the model
- `audio_ft_prep.notebooks`: The tutorials as notebooks of your own, to run and to change
- `audio_ft_prep.ogg`: What an Ogg file holds: its streams, one after the other or side by side, and whether they are all there
- `audio_ft_prep.output`: The folder that a run writes: its manifest, the records of its shards, and the files that make it a data set
- `audio_ft_prep.outside`: Outside sets that train must not know: a corpus in any layout, a benchmark's test split, or a prepared folder
- `audio_ft_prep.overlaps`: What the clips of several prepared folders share: train of one with the eval of another, and train with train
- `audio_ft_prep.page`: A page of HTML in one file: tables, plots, players, readable on every screen, light or dark
- `audio_ft_prep.parts`: One data set made by several jobs, and merged as if one had made it
- `audio_ft_prep.paths`: Where a run writes: a folder, or a URL that many machines reach
- `audio_ft_prep.pipeline`: Make a prepared data set of a corpus, or the rest of one: `prepare`
- `audio_ft_prep.plain`: Files and folders reached through no link, in folders that others may write to
- `audio_ft_prep.planning`: What a run would keep and write, and what it takes
- `audio_ft_prep.platform`: The same run as a job of the DigitalHub platform: one function to call, a few lines to define it, many jobs for a large corpus
- `audio_ft_prep.plots`: What a data set is made of: durations, speech rates, labels, speakers, rejects
- `audio_ft_prep.pool`: Rows of all splits as one pool, each clip once, from which new splits are made
- `audio_ft_prep.prepjson`: `prep.json`, read as a claim of the person who wrote it, and checked before anything is done with it
- `audio_ft_prep.process`: A process that starts in odd surroundings still says what it has to say: closed streams, an ASCII terminal, no home folder, a working folder that is gone
- `audio_ft_prep.processors`: Families whose inputs a processor of transformers makes: opened from checked files, called one clip at a time, padded as it pads
- `audio_ft_prep.progress`: Long work says how far it is, can be stopped, and tries again where that may help
- `audio_ft_prep.prompted`: What Canary and Cohere ASR want: a prompt of control tokens in front of the text
- `audio_ft_prep.raysession`: A Ray for one run: a cluster that is joined, or one of this run's own, and afterwards the process as it was
- `audio_ft_prep.reading`: A prepared folder, read as if anybody had written it: no link followed, no name believed, no size believed
- `audio_ft_prep.refine`: A prepared folder without the clips that a model heard otherwise, each of them on record
- `audio_ft_prep.rejects`: Why a clip or a row is not kept: a reason in one word, what it means, and what to do about it
- `audio_ft_prep.release`: The folders of a release of Common Voice: its languages, its tables by split, and the clips that rows ask for
- `audio_ft_prep.repair`: Splits made anew: no speaker and no sentence in two of them, of the size asked for, the same for the same seed
- `audio_ft_prep.report`: Is the data any good? A prepared folder in sentences, numbers and plots, with the clips worth listening to
- `audio_ft_prep.reported`: Sentences that listeners of Common Voice have reported, with the reason that they gave
- `audio_ft_prep.reuse`: A shard of one prepared folder in another: linked where that is as good as a copy, copied where not, and written anew without some of its rows
- `audio_ft_prep.rows`: The one row that every source yields, where its audio is, and the corpus that holds it
- `audio_ft_prep.rowtext`: The sentences of rows: cleaned, flagged, and which of them leave for it
- `audio_ft_prep.run`: Everything that a run needs, as one value: model, rows, shards, and what makes examples
- `audio_ft_prep.safenames`: Names for files, whatever clips and speakers are called: plain, unique in every letter case, the same each time
- `audio_ft_prep.samesentence`: When two sentences are the same, however they are written
- `audio_ft_prep.sampled`: What a sample holds of what was asked for, and what could not be met
- `audio_ft_prep.sampling`: Which rows are worth decoding: kept or dropped with a reason, before a byte of audio is read
- `audio_ft_prep.scored`: What a model heard, clip by clip: errors of words and letters, and the groups that each clip belongs to
- `audio_ft_prep.scripts`: The scripts that a language is written in, and the characters that mean something there though nothing is drawn
- `audio_ft_prep.sdk`: What DigitalHub's SDK is used for: a project, the versions of an artifact, what its store holds, and files on their way there
- `audio_ft_prep.secrets`: No secret in words: what is said, written or raised has none of this machine's tokens and passwords in it
- `audio_ft_prep.sections`: All that a report says of a prepared folder, in the order to read it: what to look at first, then each finding with its numbers
- `audio_ft_prep.segments`: What a model wrote of a recording as sentences with times, each with what speaks against it
- `audio_ft_prep.sentences`: A text without times as sentences, and a sentence as the words that can be heard
- `audio_ft_prep.seq2seq`: Speech2Text, SeamlessM4T v2 and Moonshine: an encoder that hears, and a decoder that writes pieces of words
- `audio_ft_prep.shards`: Rows are cut into shards, and each shard is written once: whole or not at all
- `audio_ft_prep.show`: Text, tables and numbers written for a person, on a terminal, in Markdown and in HTML
- `audio_ft_prep.soundpass`: Clips of eval, of outside sets and, where copies are looked for, of train are heard before train's examples are made
- `audio_ft_prep.soundrows`: The clips of a prepared folder with their sound, one after the other, for all that write them in another form
- `audio_ft_prep.speechllm`: What speech LLMs want, Qwen3-ASR, GLM-ASR and Voxtral: a conversation in which the sound takes as many tokens as it is long
- `audio_ft_prep.splitfiles`: The files of each split and configuration of a data set, as its card says or as their paths do
- `audio_ft_prep.splits`: Who trains and who evaluates, where a corpus doesn't say
- `audio_ft_prep.spoken`: A sentence as label ids that are text and nothing else, in a language that the model can be asked for
- `audio_ft_prep.statistics`: What a prepared folder holds in numbers: clips, durations, speakers, labels, measures and flags, by split
- `audio_ft_prep.steps`: The steps of an augmentation: each an effect, how often it comes, and between which numbers
- `audio_ft_prep.store`: `verify` and `read_prep`, where the first release had them
- `audio_ft_prep.strata`: Which rows come first: in the corpus's order or a seeded one, a share for each group, a cap on each speaker and sentence
- `audio_ft_prep.strictjson`: JSON of any origin, read in bounded time and memory, or refused in a sentence that names the file
- `audio_ft_prep.suspects`: Clips to look at one by one: those that were rejected and those that are flagged, with what was measured and what is said
- `audio_ft_prep.tableaudio`: The audio that a table holds, written out for the rows that need it so that each clip is a range of bytes in a file
- `audio_ft_prep.tablecolumns`: Which column of a table holds what, by its name
- `audio_ft_prep.tablenames`: What the clips of a table with audio are called, by their paths, their bytes, or what rows say
- `audio_ft_prep.tablerows`: Rows of a data set with an audio column: named, dealt to their splits, and with a reason for each that is none
- `audio_ft_prep.tables`: Tables that people keep of their recordings: CSV, TSV, JSON lines and JSON lists, record by record, each with its line
- `audio_ft_prep.tablesets`: Parquet data sets on the Hub or on disk, and what `save_to_disk` saved: their files by split
- `audio_ft_prep.tarindex`: Where the clips of a tar are, from one pass over its headers; a member that could lead outside is never used
- `audio_ft_prep.tarred`: Tars of recordings with their texts: WebDataset, local or on the Hub, and tarred NeMo data sets
- `audio_ft_prep.text`: A sentence of a corpus, cleaned: the same text is the same characters
- `audio_ft_prep.textrules`: What is odd in a sentence, found by rules over a million of them in seconds
- `audio_ft_prep.textvalues`: Values that are written as one text: sums of splits, sets one a line, sizes, names with commas
- `audio_ft_prep.textwords`: What a run says of its text: in a plan, a summary, a data card, and prep.json
- `audio_ft_prep.timing`: When each sentence of a text is said, how sure that is, and what only the text or only the recording has
- `audio_ft_prep.train`: The prepared folder as a plain data set, for the model that it was prepared for or for another
- `audio_ft_prep.transcribers`: One door to whatever listens: a model's id or folder, or a table of texts
- `audio_ft_prep.transducers`: What transducers want, Parakeet RNNT and TDT: pieces of words, and the same behind a blank
- `audio_ft_prep.trees`: Recordings with a text for each, or one for each folder, as LibriSpeech has them
- `audio_ft_prep.tsv`: The transcripts of Common Voice: every line a row or a fault with its number, nothing quoted and nothing guessed
- `audio_ft_prep.typed`: What a person types into a field, as the value that was meant
- `audio_ft_prep.unpacked`: Clips of an archive laid out once so that each can be read in place, in a cache that only this user can write to
- `audio_ft_prep.unserved`: What can't be prepared for a model, said in one sentence before work starts
- `audio_ft_prep.upload`: A prepared folder on its way to the platform: what is sent and said of it, and how it appears whole or not at all
- `audio_ft_prep.values`: What a table says of a clip, read as text, as seconds, as a part of a recording, or refused in one sentence
- `audio_ft_prep.valuetypes`: Whether a value is of a type, and types and values in the words of an error
- `audio_ft_prep.verdicts`: What the command says of an error, and with which exit code it ends
- `audio_ft_prep.views`: One clip, opened: its sound, what the model sees of it, its sentence and labels, or the reason why it was rejected
- `audio_ft_prep.vocabulary`: Whisper's vocabularies and its tokenizer, from what comes with this package
- `audio_ft_prep.webdataset`: The samples of a WebDataset's tars, local or on the Hub, as lines that know where their audio is
- `audio_ft_prep.whisper`: What a Whisper model wants: log-mels of 30 seconds, and labels that announce their language
- `audio_ft_prep.widgets`: A form for a run: fill it in, see what would come of it, prepare, and take it away as a command
- `audio_ft_prep.windowlabels`: Labels of a window that holds several captions: with times, with what was said before, or of no speech at all
- `audio_ft_prep.windows`: Captions of long recordings in windows of up to thirty seconds, in the form that Whisper was trained on
- `audio_ft_prep.wordmatch`: Which word of a text is which word that was heard, over hours, where the two differ in places
- `audio_ft_prep.workdir`: The folder in which a run keeps its records: this user's alone, and never believed to be so by its name
- `audio_ft_prep.workers`: Worker processes of this machine: how they are started, what they say, how they end"""

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0"
__all__ = ["PrepConfig", "plan", "prepare", "load_prepared", "SpeechCollator", "Augment"]

if TYPE_CHECKING:
    from .augment import Augment
    from .collator import SpeechCollator
    from .config import PrepConfig
    from .pipeline import prepare
    from .planning import plan
    from .train import load_prepared

_HOMES = {"PrepConfig": "config", "plan": "planning", "prepare": "pipeline", "load_prepared": "train", "SpeechCollator": "collator", "Augment": "augment"}


def __getattr__(name):
    "Import the module that holds `name` when it is first asked for, so that importing the package loads no torch."
    if name not in _HOMES: raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f".{_HOMES[name]}", __name__), name)
    return value


def __dir__(): return sorted({*globals(), *__all__})
