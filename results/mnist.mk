# The runs of the models trained on MNIST: `make results-mnist` with $BENCH_DATA set, hours on one core. Slow attacks meet
# fewer images. What is there is not made again; a run that was interrupted goes on.
MNIST := natural_mnist_cnn madry_mnist_cnn trades_mnist_cnn mmc_mnist_cnn \
	mat_mnist_cnn_plain mat_mnist_cnn_so mat_mnist_cnn_bibo mat_mnist_cnn
TEN := pgd(steps=10,step_size=0.06),pgd(steps=10,step_size=0.06,targeted=True)
FIFTY := pgd(steps=50,step_size=0.01),pgd(steps=50,step_size=0.01,targeted=True)
mnist = $(MNIST:%=results/runs/%-$(1)/verdicts.csv.gz)
on_mnist = $(BIN)/bench $(1) --model $(subst -$(2),,$(notdir $(@D))) --out $(@D) --resume
.PHONY: results-mnist

results-mnist: $(foreach part,accuracy slow steps probes sweep,$(call mnist,$(part)))

$(call mnist,accuracy): | $(READY)
	$(call on_mnist,run,accuracy) -n 1000 --attacks "noise,fgsm,pgd,multi_targeted(steps=40),ddn,adaptive,transfer(model='$(if \
		$(findstring /madry,$@),trades,madry)_mnist_cnn')"
	gzip -n -9 $(@D)/verdicts.csv

$(call mnist,slow): | $(READY)
	$(call on_mnist,run,slow) -n 100 --attacks "square,autoattack,cw(searches=4,steps=200)"
	gzip -n -9 $(@D)/verdicts.csv

$(call mnist,steps): | $(READY)
	$(call on_mnist,run,steps) -n 1000 --attacks "$(TEN),$(FIFTY)"
	gzip -n -9 $(@D)/verdicts.csv

$(call mnist,probes): | $(READY)
	$(call on_mnist,run,probes) -n 1000 --attacks pgd,ddn --save-adversarial
	$(BIN)/bench probe $(@D) --probes match_rate,embedding,gradients,rescaled$(if $(findstring /m,$(subst \
		/madry,,$@)),$(COMMA)cosine)
	rm $(@D)/adversarial.npz
	gzip -n -9 $(@D)/verdicts.csv

$(call mnist,sweep): | $(READY)
	$(call on_mnist,sweep-eps,sweep) --attack pgd,margin -n 200 --eps 0:0.4:9
	gzip -n -9 $(@D)/verdicts.csv
