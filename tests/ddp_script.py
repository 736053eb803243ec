"What each of two processes runs in the test of training by several: with accelerate, by length, and with a Trainer."
import json, sys
from pathlib import Path

import torch
from accelerate import Accelerator
from torch.utils.data import DataLoader
from transformers import Seq2SeqTrainer, Seq2SeqTrainingArguments, WhisperForConditionalGeneration, set_seed

from audio_ft_prep import SpeechCollator, load_prepared
from audio_ft_prep.batches import LengthBatches

folder, model, out = sys.argv[1:]
torch.set_num_threads(1)
rows = load_prepared(folder)["train"]
collate = SpeechCollator.of(model, rows)
accelerator = Accelerator(cpu=True)
rank, processes = accelerator.process_index, accelerator.num_processes


def net_of():
    set_seed(0)
    return WhisperForConditionalGeneration.from_pretrained(model)


def labels_of(batch): return [row[row != -100].tolist() for row in batch["labels"]]
def sum_of(net): return sum(float(p.double().sum()) for p in net.parameters())


def trained(net, batches):
    "A step on the first batch; what was heard in all of them, and the parameters' sum."
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    net, optimizer = accelerator.prepare(net, optimizer)
    heard, losses = [], []
    for batch in batches:
        heard += labels_of(batch)
        if losses: continue
        loss = net(**batch).loss
        accelerator.backward(loss)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss))
    return {"heard": heard, "losses": losses, "sum": sum_of(net)}


found = {"processes": processes}
found["accelerate"] = trained(net_of(), accelerator.prepare(DataLoader(rows, 2, collate_fn=collate)))
seconds = [n / 16_000 for n in rows["input_length"]]
sampler = LengthBatches(seconds, max_seconds=20, rank=rank, num_replicas=processes)
found["lengths"] = {"heard": sum(map(labels_of, DataLoader(rows, batch_sampler=sampler, collate_fn=collate)), [])}
arguments = Seq2SeqTrainingArguments(
    f"{out}/trainer", max_steps=2, per_device_train_batch_size=2, logging_steps=1, save_strategy="no", report_to=[],
    use_cpu=True, disable_tqdm=True)
net = net_of()
trainer = Seq2SeqTrainer(net, arguments, train_dataset=rows, data_collator=collate)
trainer.train()
losses = [line["loss"] for line in trainer.state.log_history if "loss" in line]
found["trainer"] = {"losses": losses, "sum": sum_of(net)}
Path(out, f"{rank}.json").write_text(json.dumps(found))
