# The runs of the models trained on MNIST and CIFAR-10, with $BENCH_DATA set: hours on one core. Slow attacks meet fewer
# images. What is there is not made again; a run that was interrupted goes on, and what has no folder yet is still to come.
MAT_MNIST := natural_mnist_cnn madry_mnist_cnn trades_mnist_cnn mmc_mnist_cnn \
	mat_mnist_cnn_plain mat_mnist_cnn_so mat_mnist_cnn_bibo mat_mnist_cnn
MAT_CIFAR10 := natural_wrn madry_wrn trades_wrn mmc_wrn mat_wrn_plain mat_wrn_so mat_wrn_bibo mat_wrn
# The wide nets are slow: those that were not attacked first meet fewer images.
HOLDING := madry_wrn trades_wrn mmc_wrn mat_wrn_plain mat_wrn_bibo mat_wrn
ADR_MNIST := adv_mnist_cnn adr_mnist_cnn
ADR_CIFAR10 := adv_cifar10_cnn adr_cifar10_cnn
BILATERAL_MNIST := bilateral_mnist_cnn
BILATERAL_CIFAR10 := bilateral_wrn
ER_MNIST := er_mnist_short madry_er_mnist_short
ER_MNIST_OTHERS := er_mnist_clean_short ecla_mnist_short ecla_mnist_minmax_short
ER_MNIST_DETECTORS := kd lid er_mnist_short er_mnist_clean_short ecla_mnist_short ecla_mnist_minmax_short
CIFAR10 := $(MAT_CIFAR10) $(ADR_CIFAR10) $(BILATERAL_CIFAR10)
TRAINED := $(MAT_MNIST) $(CIFAR10) $(ADR_MNIST) $(BILATERAL_MNIST) $(ER_MNIST) $(ER_MNIST_OTHERS)

runs = $(foreach part,$(2),$(1:%=results/runs/%-$(part)/verdicts.csv.gz))
MODEL = $(firstword $(subst -, ,$(notdir $(@D))))
ON_MODEL = --model $(MODEL) --out $(@D) --resume
KEEP = gzip -n -9 $(@D)/verdicts.csv
.PHONY: results-mnist results-cifar10 results-adr results-bilateral results-er

results-mnist: $(call runs,$(MAT_MNIST),accuracy apgd slow probes sweep)
results-cifar10: $(call runs,$(MAT_CIFAR10),accuracy slow probes sweep steps8 steps16 printed)
results-adr: $(call runs,$(ADR_MNIST),accuracy apgd slow hundred surfaces)
results-adr: $(call runs,$(ADR_CIFAR10),accuracy slow hundred)
results-bilateral: $(call runs,$(BILATERAL_MNIST),accuracy apgd slow)
results-bilateral: $(call runs,$(BILATERAL_MNIST) madry_mnist_cnn,thousand l2 gradients)
results-bilateral: $(call runs,$(BILATERAL_CIFAR10),accuracy slow gradients)
results-bilateral: $(call runs,$(BILATERAL_CIFAR10) madry_wrn,four)
results-er: $(call runs,$(ER_MNIST),accuracy apgd slow sweep codes)
results-er: $(call runs,$(ER_MNIST_OTHERS),accuracy codes)
results-er: $(ER_MNIST_DETECTORS:%=results/runs/natural_mnist_cnn-detect-%/scores.csv.gz)

# How many images, how far a sweep goes, and from which robust model examples are carried over.
N := 500
REACH := 0.4
SWEPT := 200
FEW := 100
$(call runs,$(CIFAR10),slow): FEW := 50
FROM = $(if $(filter madry_%,$(MODEL)),trades,madry)_mnist_cnn
# PGD as the field runs it on MNIST, with Madry's step, beside our default.
USUAL := $(COMMA)pgd(step_size=0.01)
$(call runs,$(HOLDING) mat_wrn_so,probes steps8 steps16 printed) $(call runs,$(HOLDING) $(ADR_CIFAR10) $(BILATERAL_CIFAR10),accuracy hundred four gradients): N := 250
$(call runs,$(MAT_CIFAR10),sweep): REACH := 16/255
$(call runs,$(MAT_CIFAR10),sweep): SWEPT := 100
$(call runs,$(CIFAR10),accuracy): USUAL :=
$(call runs,$(CIFAR10),accuracy): FROM = $(if $(filter madry_%,$(MODEL)),mat,madry)_wrn

$(call runs,$(TRAINED),accuracy): | $(READY)
	$(BIN)/bench run $(ON_MODEL) -n $(N) --attacks \
		"noise,fgsm,pgd$(USUAL),apgd_ce,ddn,adaptive,transfer(model='$(FROM)')"
	$(KEEP)

# The other losses of APGD: the strongest here of a known cost.
$(call runs,$(TRAINED),apgd): | $(READY)
	$(BIN)/bench run $(ON_MODEL) -n $(N) --attacks "apgd_dlr,apgd_t(targets=3)"
	$(KEEP)

$(call runs,$(TRAINED),slow): | $(READY)
	$(BIN)/bench run $(ON_MODEL) -n $(FEW) --attacks "square,autoattack,cw(searches=4,steps=200)"
	$(KEEP)

$(call runs,$(TRAINED),sweep): | $(READY)
	$(BIN)/bench sweep-eps $(ON_MODEL) --attack pgd,margin -n $(SWEPT) --eps 0:$(REACH):9
	$(KEEP)

# The images themselves are too large to keep: what probes saw in them stays. The natural model's is asked for the data's
# own dimension, for the ER-Classifier's table 2.
PROBES = match_rate,embedding,gradients,rescaled$(if $(filter mat_% mmc_%,$(MODEL)),$(COMMA)cosine)$(if \
	$(filter natural_%,$(MODEL)),$(COMMA)intrinsic_dimension)
$(call runs,$(ADR_MNIST),surfaces): PROBES := embedding(negative=300),gradients,surface
$(call runs,$(BILATERAL_MNIST) $(BILATERAL_CIFAR10) madry_mnist_cnn,gradients): PROBES := gradients
$(call runs,$(ER_MNIST) $(ER_MNIST_OTHERS),codes): PROBES := intrinsic_dimension,rademacher_surface,plane,gradients
$(call runs,$(TRAINED),probes surfaces gradients codes): | $(READY)
	$(BIN)/bench run $(ON_MODEL) -n $(N) --attacks pgd,ddn --save-adversarial
	$(BIN)/bench probe $(@D) --probes "$(PROBES)"
	rm $(@D)/adversarial.npz
	$(KEEP)

# MAT's table 3: these steps, at two eps, on CIFAR-10 alone.
$(call runs,$(MAT_CIFAR10),steps8): EPS := 8/255
$(call runs,$(MAT_CIFAR10),steps16): EPS := 16/255
TEN := pgd(steps=10,step_size=2/256),pgd(steps=10,step_size=2/256,targeted=True)
FIFTY := pgd(steps=50,step_size=2/256),pgd(steps=50,step_size=2/256,targeted=True)
$(call runs,$(MAT_CIFAR10),steps8 steps16): | $(READY)
	$(BIN)/bench run $(ON_MODEL) -n $(N) --norm linf --eps $(EPS) --attacks "$(TEN),$(FIFTY)"
	$(KEEP)

# PGD as the printed numbers were likely made; on MNIST it is among the others.
$(call runs,$(MAT_CIFAR10),printed): | $(READY)
	$(BIN)/bench run $(ON_MODEL) -n $(N) --attacks "pgd(steps=20,step_size=0.003)"
	$(KEEP)

# ADR's tables: a hundred steps, and toward every class; its own attack on the model that was not trained by it too. On
# CIFAR-10 BIM and MIM, which take as long each, are left out.
HUNDRED = step_size=$(if $(filter %_cifar10_cnn,$(MODEL)),0.007,0.01),steps=100
BIM_AND_MIM = bim($(HUNDRED)),mim($(HUNDRED)),bim_multi_targeted($(HUNDRED)),mim_multi_targeted($(HUNDRED))
OWN = adr(lc=1,gb=1,smt=1$(if $(filter %_cifar10_cnn,$(MODEL)),$(COMMA)conf=1))
$(call runs,$(ADR_MNIST) $(ADR_CIFAR10),hundred): | $(READY)
	$(BIN)/bench run $(ON_MODEL) -n $(N) --attacks "pgd($(HUNDRED)),multi_targeted($(HUNDRED)),multi_margin$(if \
		$(filter %_mnist_cnn,$(MODEL)),$(COMMA)$(BIM_AND_MIM))$(if $(filter adv_%,$(MODEL)),$(COMMA)$(OWN))"
	$(KEEP)

# The bilateral paper's tables: up to a thousand steps, and two settings of C&W within the ball.
OFTEN := pgd(steps=20,step_size=0.075),pgd(steps=100,step_size=0.075),pgd(steps=1000,step_size=0.075)
$(call runs,$(BILATERAL_MNIST) madry_mnist_cnn,thousand): | $(READY)
	$(BIN)/bench run $(ON_MODEL) -n $(N) --attacks "$(OFTEN),margin(steps=100,step_size=0.075),mim,multi_margin,$(TWO)"
	$(KEEP)

# On CIFAR-10 a thousand steps are too many: the other four.
FOUR_FEW := pgd(steps=20,step_size=2/255),pgd(steps=100,step_size=2/255),margin(steps=100,step_size=2/255)
$(call runs,$(BILATERAL_CIFAR10) madry_wrn,four): | $(READY)
	$(BIN)/bench run $(ON_MODEL) -n $(N) --attacks "$(FOUR_FEW)"
	$(KEEP)

$(call runs,$(BILATERAL_MNIST) madry_mnist_cnn,l2): | $(READY)
	$(BIN)/bench run $(ON_MODEL) -n $(N) --norm l2 --attacks "$(UNBOUNDED)"
	$(KEEP)

# The supplement's high confidence on MNIST is 9.
$(ER_MNIST_DETECTORS:%=results/runs/natural_mnist_cnn-detect-%/scores.csv.gz): results/runs/natural_mnist_cnn-detect-%/scores.csv.gz: | $(READY)
	rm -rf $(@D)
	$(BIN)/bench detect --model natural_mnist_cnn --detector "$(if $(filter kd lid,$*),$*,er(encoder='$*'))" --out $(@D) \
		-n $(N) \
		--attacks "fgsm,pgd,$(CW),cw(searches=4,steps=100,confidence=9)" --fit-attack "fgsm,pgd,$(CW)"
	gzip -n -9 $(@D)/scores.csv
